"""The places of packs: for the moment in which packs come to them, or leave them, so that nobody sees it half done."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_NAME = "place.lock"


@contextmanager
def hold_places(packs_directory: Path, *, alone: bool) -> Iterator[None]:
    """Let no pack leave its place meanwhile; `alone`, let none come to one either."""
    fd = os.open(packs_directory / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
