"""One run of the program: parse, call the verb, return an exit code."""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Sequence

import typer

from stockroom.cli import exit_codes
from stockroom.cli.app import make_program
from stockroom.cli.failures import exit_code_of_failure, tell_failure
from stockroom.cli.global_options import COMPLETE_VARIABLE
from stockroom.cli.output import OutputError, discard_output, flush_output, replace_closed_streams


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; failures are already reported on stderr."""
    replace_closed_streams()
    _tolerate_any_character()
    try:
        code = _call(arguments)
        flush_output()
    except BrokenPipeError:
        discard_output()
        return exit_codes.OK
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OutputError):
            discard_output()
        verbose = _has_flag(arguments, "-v", "--verbose")
        tell_failure(error, verbose=verbose, as_json=_has_flag(arguments, "--json"))
        return exit_code_of_failure(error)
    return code


def _call(arguments: Sequence[str]) -> int:
    try:
        if COMPLETE_VARIABLE in os.environ:
            _answer_shell()
        program = make_program()
        with program.make_context("stock", list(arguments)) as context:
            program.invoke(context)
    except typer.Exit as exit_:
        return exit_.exit_code
    return exit_codes.OK


def _answer_shell() -> None:
    """Print the completions that a script of `stock completion` requested through the environment, and exit."""
    from typer.completion import completion_init  # type: ignore[attr-defined] # typer does not list it

    completion_init()
    make_program().main(args=[], prog_name="stock", complete_var=COMPLETE_VARIABLE)


def _tolerate_any_character() -> None:
    """Escape characters that the terminal's encoding lacks: keys and messages may contain any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _has_flag(arguments: Sequence[str], *flags: str) -> bool:
    """Return whether a global flag was given; looks at plain words, since the command line may be invalid."""
    words = itertools.takewhile(lambda word: word != "--", arguments)
    return any(word in flags for word in words)
