"""What turns a plain function into a verb: the global options after it, a console, and `-C`.

A verb's function takes a `Console` and then its own typer parameters:

    @verb
    def log(console: Console, ref: Annotated[str, typer.Argument()] = "HEAD") -> None:
        '''Show the commits that lead to a ref, newest first.'''
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, get_type_hints

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.global_options import COMPLETE_VARIABLE, Settings, add_global_options, take_settings


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as a typer command that understands the global options after the verb too."""

    def command(context: typer.Context, **options: Any) -> None:
        before: Settings = context.obj
        settings = before.joined(take_settings(options))
        with _working_directory(settings):
            function(Console(_full_name(context), settings), **options)

    command.__doc__ = function.__doc__
    return add_global_options(command, _own_parameters(function), hidden=True)


def _full_name(context: typer.Context) -> str:
    """The verb as it is listed: `tag`, or `exp show` for one under another."""
    names: list[str] = []
    level: Any = context
    while level.parent is not None:
        names.insert(0, level.command.name)
        level = level.parent
    return " ".join(names)


def _own_parameters(function: Callable[..., None]) -> list[Parameter]:
    """The parameters after the console, with their annotations resolved."""
    hints = get_type_hints(function, include_extras=True)
    own = list(signature(function).parameters.values())[1:]
    if COMPLETE_VARIABLE in os.environ:
        _add_completers(function.__name__, hints)
    return [parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY) for parameter in own]


def _add_completers(verb_name: str, hints: dict[str, Any]) -> None:
    """Have the parameters that `COMPLETERS` names completed by it: a shell asks."""
    from stockroom.cli.completers import COMPLETERS

    for name, hint in hints.items():
        completer = COMPLETERS.get(f"{verb_name}.{name}")
        if completer is not None:
            hint.__metadata__[0].autocompletion = completer


def _working_directory(settings: Settings) -> contextlib.AbstractContextManager[None]:
    if not settings.directory.parts:
        return contextlib.nullcontext()
    if not settings.directory.is_dir():
        raise CommandLineError(f"-C needs a folder that exists, found none at {settings.directory}; check the path")
    return contextlib.chdir(settings.directory)
