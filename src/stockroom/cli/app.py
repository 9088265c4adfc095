"""The program: its verbs, loaded when they are called, and the global options before the verb."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from inspect import Parameter
from keyword import iskeyword
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from stockroom import __version__
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.global_options import add_global_options, take_option_values
from stockroom.cli.verb import PATHS
from stockroom.errors import did_you_mean, near_names


def name_modules(verbs: str, folder: str = "") -> dict[str, str]:
    """Map each verb to its module in `verbs`, which has a function of the same name: `merge_driver`, `import_`."""
    return {verb: folder + verb.replace("-", "_") + "_" * iskeyword(verb) for verb in verbs.split()}


VERBS: Final = {
    **name_modules("init import status commit"),
    **name_modules("log blame", "history."),
    **name_modules("show ls cat diff branch tag checkout merge resolve revert cherry-pick"),
    **name_modules("reset rm mv", "stage."),
    **name_modules("undo redo reflog", "operations."),
    **name_modules("clone remote fetch pull push prefetch drop export fsck gc du config completion"),
}
"""Each verb and its module, in the order of the help."""

EXAMPLE: Final = "stock import torchvision.fashion_mnist --root ~/fashion-mnist"
"""The example at the end of the program's own help."""


@dataclass(frozen=True, slots=True)
class Group:
    """A verb with verbs of its own, such as `stock model ls`; `verbs` is a table like `VERBS`."""

    help: str
    example: str
    verbs: Mapping[str, str]
    default: str | None = None
    """The verb that runs if none is named."""


GROUPS: Final[dict[str, Group]] = {
    "model": Group(
        "Show, compare, import and export models.",
        "stock model diff HEAD~1 resnet",
        name_modules("ls show diff stats export import", "model."),
    ),
    "exp": Group(
        "Compare experiments: values, metrics and artifacts. Also called `stock experiment`.",
        "stock exp show --filter 'lr < 0.01' --sort acc",
        name_modules("show plot diff ls export", "exp."),
    ),
    "stash": Group(
        "Put staged changes aside, and bring them back. Without a verb: push.",
        "stock stash push -m 'Half done' -- data/label",
        name_modules("push pop apply list show drop clear", "stash."),
        default="push",
    ),
    "git": Group(
        "Connect to git: show the tie, install the merge driver and hooks.",
        "stock git install --hooks",
        name_modules("status install uninstall merge-driver hook", "git."),
    ),
}
"""Maps each such verb to the verbs under it."""

ALIASES: Final = {"experiment": "exp"}
"""Maps a full name to the group in the list of verbs."""

_make_typer: Final = partial(
    typer.Typer, add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


class VerbGroup(TyperGroup):
    """Loads the module of a verb when it is called, so that each command imports only its own needs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Return every verb, in the order of the help."""
        return [*VERBS, *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Return the command of a verb; raises `CommandLineError`, suggesting similar verbs, if there is none."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name in GROUPS:
            return load_group(name)
        if name not in VERBS:
            raise CommandLineError(_unknown_verb("stock", cmd_name, [*VERBS, *GROUPS, *ALIASES]))
        return load_verb(name, VERBS[name])


class SubverbGroup(TyperGroup):
    """Loads the verbs under one verb, the key `name` in `GROUPS`."""

    @property
    def verbs(self) -> Mapping[str, str]:
        """Each verb in the group and its module."""
        return GROUPS[self.name or ""].verbs

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group's name; those of the default verb need not name it."""
        default = GROUPS[self.name or ""].default
        if default is not None and not ctx.resilient_parsing and _leaves_out_verb(args, self.verbs):
            args = [default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the group's verbs, in the order of the help."""
        return list(self.verbs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Return the command of a verb in the group; raises `CommandLineError`, suggesting similar verbs."""
        if cmd_name not in self.verbs:
            raise CommandLineError(_unknown_verb(f"stock {self.name}", cmd_name, list(self.verbs)))
        return load_verb(cmd_name, self.verbs[cmd_name])


class PathsCommand(TyperCommand):
    """A verb that takes paths after `--`; if it has `-n`, `-3` is `-n 3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words before `--`, and keep those after it for the verb."""
        position = args.index("--") if "--" in args else None
        ctx.meta[PATHS] = None if position is None else args[position + 1 :]
        words = args[:position]
        if any("-n" in parameter.opts for parameter in self.params):
            words = [re.sub(r"^-([0-9]+)$", r"-n\1", word) for word in words]
        return super().parse_args(ctx, words)


def load_verb(name: str, module_name: str) -> Any:
    """Return the click command of one verb, such as the function `ls` in `verbs/model/ls.py`."""
    module = import_module(f"stockroom.cli.verbs.{module_name}")
    function = getattr(module, module_name.rpartition(".")[2])
    single = _make_typer()
    kind = PathsCommand if function.has_paths else None
    single.command(name, cls=kind, epilog=_make_epilog(function.example))(function)
    command = typer.main.get_command(single)
    respell = getattr(function, "respell", None)
    if respell is not None:  # git's spelling of an option that typer cannot parse
        parse = command.parse_args
        command.parse_args = lambda ctx, args: parse(ctx, respell(args))  # type: ignore[method-assign]
    return command


def load_group(name: str) -> Any:
    """Return the click command of a verb with verbs under it, without loading those."""
    group, epilog = GROUPS[name], _make_epilog(GROUPS[name].example)
    app = _make_typer(name=name, cls=SubverbGroup, invoke_without_command=True, help=group.help, epilog=epilog)
    app.callback()(add_global_options(_before_the_subverb, [], hidden=True))
    return typer.main.get_command(app)


def make_program() -> Any:
    """Return the click command of the whole program."""
    app = _make_typer(name="stock", cls=VerbGroup, invoke_without_command=True, epilog=_make_epilog(EXAMPLE))
    version = typer.Option("--version", help="Print the version and exit.")
    own = [Parameter("version", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, version])]
    app.callback()(add_global_options(_before_the_verb, own, hidden=False))
    return typer.main.get_command(app)


def _leaves_out_verb(args: list[str], verbs: Mapping[str, str]) -> bool:
    """Return whether the words begin with options of the default verb, or there are none."""
    for word in args:
        if word in verbs or word in ("-h", "--help") or not word.startswith("-"):
            return False
        if word in ("-m", "--message", "--") or word.startswith("--message="):
            return True
    return True


def _make_epilog(example: str) -> str:
    """Return the end of a help text; its first character keeps click from refilling the lines."""
    return f"\b\nExample:\n  {example}"


def _before_the_verb(context: typer.Context, version: bool, **options: Any) -> None:
    """Version control for tensors, beside git.

    The options below can come before or after the verb.
    """
    context.obj = given = take_option_values(options)
    if version:
        Console("version", given).answer({"stockroom": __version__}, [f"stock {__version__}"])
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise CommandLineError("expected a verb, found none; see the list above")


def _before_the_subverb(context: typer.Context, **options: Any) -> None:
    context.obj = context.obj.joined(take_option_values(options))
    if context.invoked_subcommand is None:
        path = f"stock {context.command.name}"
        raise CommandLineError(f"expected a verb after {path}, found none; {path} --help lists them")


def _unknown_verb(path: str, name: str, known: list[str]) -> str:
    after = "" if path == "stock" else f" after {path}"
    hints = did_you_mean(near_names(name, known, 2), quote=str), f"{path} --help lists them"
    return f"expected a verb{after}, found {name!r}; {' '.join(filter(None, hints))}"
