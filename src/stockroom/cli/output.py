"""Standard output: written to, replaced if it is closed, and given up if it cannot be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stockroom.errors import StockroomError


class OutputError(StockroomError):
    """What a command prints cannot be written, as to a full disk or a closed stream."""


def write_output(text: str) -> None:
    """Write to stdout. Raises `OutputError`, or `BrokenPipeError` if the reader has left."""
    with _naming_output():
        sys.stdout.write(text)


def write_binary_output(data: bytes | memoryview) -> None:
    """Write bytes to stdout unchanged; raises as `write_output` does."""
    with _naming_output():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def flush_output() -> None:
    """Flush stdout; raises as `write_output` does."""
    with _naming_output():
        sys.stdout.flush()


def discard_output() -> None:
    """Keep the interpreter from complaining at exit about output that cannot be written."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def replace_closed_streams() -> None:
    """Open standard streams that are closed, so that no file gets their numbers. Writing to stdout then fails."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        devnull = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
        if devnull != number:
            os.dup2(devnull, number)
            os.close(devnull)
        setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))


@contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}; nothing else failed") from error
