"""A repository's own small files: read with a limit, and never written through a link that somebody laid out there.

A folder may come from anybody. What is opened in it by name must not block, fill the memory, or lead out of it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from stockroom.errors import MalformedRecordError

MAX_NBYTES: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def read_own_file(path: Path, *, max_nbytes: int = MAX_NBYTES) -> bytes:
    """The file's content.

    Raises:
        FileNotFoundError: there is none.
        MalformedRecordError: it is larger, or no file but a pipe, a device or the like.
    """
    fd = os.open(path, _READ)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_nbytes:
            what = f"one of {found.st_size} bytes" if stat.S_ISREG(found.st_mode) else "something else"
            raise MalformedRecordError(
                f"{path}: expected a file of at most {max_nbytes} bytes, found {what}; restore or remove it",
                where=str(path),
            )
        with open(fd, "rb", closefd=False) as file:
            return file.read(max_nbytes)
    finally:
        os.close(fd)


def write_own_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write the file, with `sync` also to disk; `OSError` if there is a link in its place."""
    fd = os.open(path, _WRITE, 0o644)
    with open(fd, "wb") as file:  # noqa: PTH123 - there is no path without following links
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def replace_own_file(path: Path, content: bytes) -> None:
    """Put a new file in the place of `path`, in one step."""
    replacement = path.with_suffix(".new")
    replacement.unlink(missing_ok=True)
    write_own_file(replacement, content)
    replacement.rename(path)
