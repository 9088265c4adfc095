"""The global options, which may come before or after the verb, and the settings read from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Final

import typer

COMPLETE_VARIABLE: Final = "_STOCK_COMPLETE"
"""Set by the scripts of `stock completion`, so that the program answers the shell and does not run."""


@dataclass(frozen=True, slots=True)
class OptionValues:
    """The values of the global options; `directory` is relative to the directory where the program started."""

    directory: Path = Path()
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    progress: bool = True
    colour: bool = True

    def joined(self, later: OptionValues) -> OptionValues:
        """Return these settings overridden by those given later on the command line."""
        return OptionValues(
            directory=self.directory / later.directory,
            quiet=self.quiet or later.quiet,
            verbose=self.verbose or later.verbose,
            json=self.json or later.json,
            progress=self.progress and later.progress,
            colour=self.colour and later.colour,
        )


@dataclass(frozen=True, slots=True)
class GlobalOption:
    """An option that every verb has; `name` is the name of its function parameter."""

    name: str
    flags: tuple[str, ...]
    help: str
    kind: Any = bool
    default: Any = False
    metavar: str | None = None

    def parameter(self, *, hidden: bool) -> Parameter:
        """Return the option as typer reads it from a function's signature."""
        option = typer.Option(*self.flags, metavar=self.metavar, help=self.help, hidden=hidden)
        return Parameter(
            self.name, Parameter.KEYWORD_ONLY, default=self.default, annotation=Annotated[self.kind, option]
        )


GLOBAL_OPTIONS: Final = (
    GlobalOption(
        "global_directories",
        ("-C",),
        "Run as if started in DIR; can be repeated.",
        kind=list[Path] | None,
        default=None,
        metavar="DIR",
    ),
    GlobalOption("global_quiet", ("-q", "--quiet"), "Print only data and errors."),
    GlobalOption(
        "global_verbose", ("-v", "--verbose"), "List what an import left out; show the traceback of an error."
    ),
    GlobalOption("global_json", ("--json",), "Print one JSON document instead of text."),
    GlobalOption("global_no_progress", ("--no-progress",), "Draw no progress bars."),
    GlobalOption("global_no_color", ("--no-color",), "Use no colors and draw no pictures, as with NO_COLOR."),
)


def add_global_options(command: Callable[..., None], own: Sequence[Parameter], *, hidden: bool) -> Callable[..., None]:
    """Give `command` the signature of a typer context, its `own` parameters and the global options."""
    context = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *own, *(option.parameter(hidden=hidden) for option in GLOBAL_OPTIONS)]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def take_option_values(options: dict[str, Any]) -> OptionValues:
    """Remove the global options from `options`; each `-C` is relative to the one before, as in git."""
    given = {option.name: options.pop(option.name) for option in GLOBAL_OPTIONS}
    return OptionValues(
        directory=Path().joinpath(*(given["global_directories"] or ())),
        quiet=given["global_quiet"],
        verbose=given["global_verbose"],
        json=given["global_json"],
        progress=not given["global_no_progress"],
        colour=not given["global_no_color"],
    )
