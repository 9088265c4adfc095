"""The lock on the folders of packs: held while packs move in or out, so no process sees a half-done move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stockroom.locks import FileLock

_LOCK_NAME: Final = "place.lock"
PLACE_TIMEOUT_S: Final = 300.0
"""gc takes every pack it removes out of the catalog and its place in one hold: seconds for many thousands."""


def lock_packs(packs_directory: Path, *, alone: bool, timeout_s: float = PLACE_TIMEOUT_S) -> FileLock:
    """Keep packs from leaving their folder until this lock is released; with `alone`, also from arriving.

    Raises `LockedError` if another process holds it for `timeout_s`.
    """
    lock = FileLock(packs_directory / _LOCK_NAME, is_shared=not alone)
    lock.take(timeout_s, busy=f"{packs_directory}: another process is moving packs; end it if it hangs")
    return lock


@contextmanager
def try_lock_packs(packs_directory: Path) -> Iterator[bool]:
    """Keep packs from leaving their places during the block if no process is moving any; tells whether it does."""
    with FileLock(packs_directory / _LOCK_NAME, is_shared=True) as lock:
        yield lock.try_take()
