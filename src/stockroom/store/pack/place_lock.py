"""The places of packs: for the moment in which packs come to them, or leave them, so that nobody sees it half done."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockroom.errors import ReadOnlyError

_LOCK_NAME = "place.lock"


def open_lock_file(path: Path) -> int:
    """A file to lock, made unless it is there; `ReadOnlyError` where nothing can be written."""
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise ReadOnlyError(
            f"{path}: expected a folder to write in, found {error.strerror}; only reading works here"
        ) from error


@contextmanager
def hold_places(packs_directory: Path, *, alone: bool) -> Iterator[None]:
    """Let no pack leave its place meanwhile; `alone`, let none come to one either."""
    fd = open_lock_file(packs_directory / _LOCK_NAME)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
