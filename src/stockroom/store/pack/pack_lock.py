"""The lock on the folders of packs: held while packs move in or out, so no process sees a half-done move."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stockroom.locks import FileLock

_LOCK_NAME: Final = "place.lock"
_TIMEOUT_S: Final = 300.0
"""gc takes every pack it removes out of the catalog and its place in one hold: seconds for many thousands."""


def lock_packs(packs_directory: Path, *, alone: bool) -> FileLock:
    """Keep packs from leaving their folder until this lock is released; with `alone`, also from arriving.

    Raises `LockedError` if another process holds it for five minutes.
    """
    lock = FileLock(packs_directory / _LOCK_NAME, is_shared=not alone)
    lock.take(_TIMEOUT_S, busy=f"{packs_directory}: another process is moving packs; end it if it hangs")
    return lock
