"""Turns a plain function into a verb: adds the global options, a console, and `-C`.

A verb's function takes a `Console`, then its own typer parameters. Its help ends with `example`. `complete` names the
completer of a parameter, from `completion.COMPLETERS`. With `paths`, the function takes as `paths` the words after
`--`, as git does, or None if there is no `--`:

    @verb(example="stock log --oneline -n 20", complete={"ref": "refs"})
    def log(console: Console, ref: Annotated[str, typer.Argument()] = "HEAD") -> None:
        '''Show the commits that are reachable from a ref, newest first.'''
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, Final, get_type_hints

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.global_options import COMPLETE_VARIABLE, OptionValues, add_global_options, take_option_values

PATHS: Final = "stockroom.paths"
"""The key in a context's `meta` under which the words after `--` are."""


def verb(
    *, example: str, complete: Mapping[str, str] | None = None, paths: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function a typer command, which takes the global options after the verb too."""

    def make_command(function: Callable[..., None]) -> Callable[..., None]:
        def command(context: typer.Context, **options: Any) -> None:
            before: OptionValues = context.obj
            given = before.joined(take_option_values(options))
            if paths:
                options["paths"] = context.meta.get(PATHS)
            with _working_directory(given):
                function(Console(_full_name(context), given), **options)

        command.__doc__ = function.__doc__
        command.example = example  # type: ignore[attr-defined]
        command.has_paths = paths  # type: ignore[attr-defined]
        return add_global_options(command, _own_parameters(function, complete or {}, paths=paths), hidden=True)

    return make_command


def _full_name(context: typer.Context) -> str:
    """Return the verb as it is listed: `tag`, or `exp show` for one in a group."""
    names: list[str] = []
    level: Any = context
    while level.parent is not None:
        names.insert(0, level.command.name)
        level = level.parent
    return " ".join(names)


def _own_parameters(function: Callable[..., None], complete: Mapping[str, str], *, paths: bool) -> list[Parameter]:
    """Return the parameters after the console that a command line gives, with resolved annotations."""
    hints = get_type_hints(function, include_extras=True)
    own = [one for one in list(signature(function).parameters.values())[1:] if not paths or one.name != "paths"]
    if COMPLETE_VARIABLE in os.environ:  # a shell requests completions
        from stockroom.cli.completion import COMPLETERS  # here for start-up time

        for name, kind in complete.items():
            hints[name].__metadata__[0].autocompletion = COMPLETERS[kind]
    return [parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY) for parameter in own]


def _working_directory(given: OptionValues) -> contextlib.AbstractContextManager[None]:
    if not given.directory.parts:
        return contextlib.nullcontext()
    if not given.directory.is_dir():
        raise CommandLineError(f"-C expects an existing folder, found none at {given.directory}; check the path")
    return contextlib.chdir(given.directory)
