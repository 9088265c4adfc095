"""The program: its verbs, each loaded when it is called, and the global options before the verb."""

from __future__ import annotations

import difflib
from importlib import import_module
from inspect import Parameter
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from stockroom.cli.failures import CommandLineError
from stockroom.cli.settings import Settings, add_global_options, take_settings

VERBS: Final[dict[str, str]] = {
    "init": "init",
    "import": "import_",
    "status": "status",
    "commit": "commit",
    "log": "log",
    "show": "show",
    "ls": "ls",
    "cat": "cat",
    "diff": "diff",
    "branch": "branch",
    "tag": "tag",
    "checkout": "checkout",
    "reset": "reset",
    "undo": "undo",
    "reflog": "reflog",
    "clone": "clone",
    "remote": "remote",
    "fetch": "fetch",
    "pull": "pull",
    "push": "push",
    "prefetch": "prefetch",
    "drop": "drop",
    "export": "export",
    "fsck": "fsck",
}
"""Verb -> its module here, which holds a function of the module's name."""

VERB_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


class VerbGroup(TyperGroup):
    """Loads a verb's module when the verb is asked for: a command starts as fast as its own needs allow."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Every verb, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of a verb; raises `CommandLineError` naming near verbs where there is none."""
        if cmd_name not in VERBS:
            raise CommandLineError(_unknown_verb(cmd_name))
        return load_verb(cmd_name)


def load_verb(name: str) -> Any:
    """The click command of one verb."""
    module = import_module(f"stockroom.cli.{VERBS[name]}")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=VERB_CONTEXT)
    single.command(name)(getattr(module, VERBS[name]))
    return typer.main.get_command(single)


def make_program() -> Any:
    """The click command of the whole program."""
    app = typer.Typer(
        name="stock",
        cls=VerbGroup,
        add_completion=False,
        rich_markup_mode=None,
        context_settings=VERB_CONTEXT,
        invoke_without_command=True,
    )
    version = typer.Option("--version", help="Print the version and exit.")
    own = [
        Parameter("version", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, version]),
    ]
    app.callback()(add_global_options(_before_the_verb, own, hidden=False))
    return typer.main.get_command(app)


def _before_the_verb(context: typer.Context, version: bool, **options: Any) -> None:
    """Version control for tensors, beside git.

    The options below may stand before the verb or after it.
    """
    context.obj = settings = take_settings(options)
    if version:
        _tell_version(settings)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise CommandLineError("expected a verb, found none; see the list above")


def _tell_version(settings: Settings) -> None:
    from stockroom.cli.console import Console
    from stockroom.cli.version import version_line

    console = Console("version", settings)
    if console.json:
        console.document({"stockroom": version_line().removeprefix("stock ")})
    else:
        console.line(version_line())


def _unknown_verb(name: str) -> str:
    near = difflib.get_close_matches(name, list(VERBS), n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"expected a verb, found {name!r}; {hint}stock --help lists them"
