"""Taking packs away: by one process at a time, out of the catalog first, and never half deleted in their place.

Two processes that each drop a copy of a chunk because the other still has one would lose it: whoever removes packs
holds the lock from its decision to the end. Whoever relies on packs being there without being a writer shares it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.errors import LockedError
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.place_lock import hold_places, open_lock_file
from stockroom.store.tensor_store import TensorStore

_LOCK_NAME = "removal.lock"
_POLL_S = 0.05


@contextmanager
def lock_removal(store: TensorStore, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Be the only process that removes packs of this store; `LockedError` if another one does for `timeout_s`."""
    with _locked(store.packs_directory, fcntl.LOCK_EX, timeout_s):
        yield


@contextmanager
def forbid_removal(store: TensorStore, *, timeout_s: float) -> Iterator[None]:
    """Let no process remove packs of this store; `LockedError` if one does for `timeout_s`."""
    with _locked(store.packs_directory, fcntl.LOCK_SH, timeout_s):
        yield


def remove_packs(
    store: TensorStore,
    packs: Mapping[int, PackDigest],
    session_directory: Path,
    *,
    is_doomed: Callable[[PackDigest], bool] = lambda _: True,
) -> dict[int, PackDigest]:
    """Unregister packs, by number, then delete their folders by way of `session_directory`, a writer's own.

    Returns those that went: one that is not `is_doomed` any more, when nobody can come to rely on it, stays.
    """
    with hold_places(store.packs_directory, alone=True):
        doomed = {number: digest for number, digest in packs.items() if is_doomed(digest)}
        if doomed:
            store.index.unregister(list(doomed))
            store.cache.forget()
            for digest in doomed.values():
                with suppress(FileNotFoundError):
                    locate_pack(store.packs_directory, digest).rename(_find_way_out(session_directory, digest))
    for digest in doomed.values():
        shutil.rmtree(_find_way_out(session_directory, digest), ignore_errors=True)
    return doomed


def _find_way_out(session_directory: Path, digest: PackDigest) -> Path:
    return session_directory / f"removed-{digest.hex()}"


@contextmanager
def _locked(packs_directory: Path, how: int, timeout_s: float) -> Iterator[None]:
    fd = open_lock_file(packs_directory / _LOCK_NAME)
    try:
        deadline_s = time.monotonic() + timeout_s
        while not _try_lock(fd, how):
            if time.monotonic() >= deadline_s:
                raise LockedError(
                    f"{packs_directory}: another process is removing packs, or fetching; try again once it is done"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
