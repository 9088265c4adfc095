"""Reports a failure: one line on stderr, which is JSON with `--json`.

Tracebacks appear only with `-v`. Failures never write to stdout, which is for data.
"""

from __future__ import annotations

import errno
import json
import sys
import traceback
from typing import Final

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import DOCUMENT_VERSION
from stockroom.content.printable import as_printable
from stockroom.errors import StockroomError
from stockroom.files import is_exhaustion

# typer raises usage errors of its bundled click, which newer versions keep private.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


NEXT_STEPS: Final = {
    errno.EACCES: "; check its permissions",
    errno.EPERM: "; check its permissions",
    errno.EROFS: "; work on a writable copy",
    errno.ENOSPC: "; free some disk space and run the command again",
    errno.ENOENT: "; check the path",
    errno.EMFILE: "; raise the limit on open files (ulimit -n)",
}
"""The next step after an operating system error, by its number."""


class CommandLineError(Exception):
    """The command line is invalid; the message says what was expected, what was found, and what to type."""


def exit_code_of_failure(error: BaseException) -> int:
    """Return the exit code for `error`."""
    if isinstance(error, CommandLineError | UsageError):
        return exit_codes.USAGE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return exit_codes.INTERRUPTED
    if isinstance(error, OSError) and is_exhaustion(error):
        return exit_codes.UNREADABLE
    return exit_codes.exit_code_of(error)


def tell_failure(error: BaseException, *, verbose: bool, as_json: bool) -> None:
    """Write `error` to stderr in one line; with `verbose`, write its traceback first."""
    if verbose:
        sys.stderr.write(as_printable(_mask("".join(traceback.format_exception(error)))))
    if as_json:
        document = {"version": DOCUMENT_VERSION, "error": _error_document(error)}
        sys.stderr.write(json.dumps(document, default=str) + "\n")
    else:
        sys.stderr.write(f"stock: {message_of(error)}\n")
    sys.stderr.flush()


def message_of(error: BaseException) -> str:
    """Return the message for `error`, in one line."""
    return " ".join(as_printable(_mask(_raw_message(error))).split())


def _raw_message(error: BaseException) -> str:
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = "stock" if context is None else context.command_path
        return f"{_usage_text(error)}; see {command} --help"
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted"
    if isinstance(error, StockroomError | CommandLineError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return _system_text(error)
    return f"internal error, please report it: {type(error).__name__}: {error}; -v shows the traceback"


def _system_text(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, str(error.strerror)]) + NEXT_STEPS.get(error.errno or 0, "")


def _usage_text(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    return str(format_message() if callable(format_message) else error).strip().rstrip(".")


def _error_document(error: BaseException) -> dict[str, object]:
    fields = {name: _mask_plain(value) for name, value in vars(error).items() if _is_plain(value)}
    if isinstance(error, UsageError):
        fields = {}
    return fields | {
        "type": "UsageError" if isinstance(error, UsageError | CommandLineError) else type(error).__name__,
        "message": message_of(error),
        "exit_code": exit_code_of_failure(error),
    }


def _mask(text: str) -> str:
    from stockroom.remotes.mask import mask_urls  # here for start-up time

    return mask_urls(text)


def _mask_plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_mask_plain(item) for item in value]
    return _mask(value) if isinstance(value, str) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
