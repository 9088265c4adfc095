"""The places of packs: for the moment in which packs come to them, or leave them, so that nobody sees it half done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stockroom.locks import FileLock

_LOCK_NAME: Final = "place.lock"
_TIMEOUT_S: Final = 300.0
"""gc takes all packs that go out of the catalog and out of their places in one hold: seconds for many thousands."""


def hold_places(packs_directory: Path, *, alone: bool) -> FileLock:
    """Let no pack leave its place until this is released; `alone`, let none come to one either.

    `LockedError` if another process is in the way for five minutes.
    """
    lock = FileLock(packs_directory / _LOCK_NAME, is_shared=not alone)
    lock.take(_TIMEOUT_S, busy=f"{packs_directory}: another process is moving packs; end it if it has stopped")
    return lock
