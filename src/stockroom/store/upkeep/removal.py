"""Removes packs: one process at a time, from the catalog first, and never half deleted in their place.

Two processes that each drop a copy of a chunk because the other still has one would lose it. So a process that removes
packs holds the lock from its decision to the end, and a process that relies on packs without being a writer shares it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.locks import FileLock
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack_lock import PLACE_TIMEOUT_S, lock_packs
from stockroom.store.tensor_store import TensorStore

_LOCK_NAME = "removal.lock"


def lock_removal(store: TensorStore, *, timeout_s: float = 0.0) -> FileLock:
    """Keep other processes from removing packs of this store; raises `LockedError` if one does so for `timeout_s`."""
    return _lock(store.packs_directory, timeout_s, is_shared=False)


def forbid_removal(store: TensorStore, *, timeout_s: float) -> FileLock:
    """Keep every process from removing packs of this store; raises `LockedError` if one does so for `timeout_s`."""
    return _lock(store.packs_directory, timeout_s, is_shared=True)


@contextmanager
def try_lock_removal(store: TensorStore) -> Iterator[bool]:
    """Keep other processes from removing packs during the block if none does so now; tells whether it does."""
    with FileLock(store.packs_directory / _LOCK_NAME) as lock:
        yield lock.try_take()


def remove_packs(
    store: TensorStore,
    packs: Mapping[int, PackDigest],
    writer_folder: Path,
    *,
    may_delete: Callable[[PackDigest], bool] = lambda _: True,
    timeout_s: float = PLACE_TIMEOUT_S,
) -> dict[int, PackDigest]:
    """Unregister packs, by number, then delete their folders by way of `writer_folder`, a writer's own.

    Returns the removed packs. A pack stays if `may_delete`, asked when no process can start to rely on it, is false.
    Raises `LockedError` if other processes move packs for `timeout_s`.
    """
    with lock_packs(store.packs_directory, alone=True, timeout_s=timeout_s):
        deletable = {number: digest for number, digest in packs.items() if may_delete(digest)}
        if deletable:
            store.index.unregister(list(deletable))
            store.cache.forget()
            for digest in deletable.values():
                with suppress(FileNotFoundError):
                    locate_pack(store.packs_directory, digest).rename(_make_exit_path(writer_folder, digest))
    for digest in deletable.values():
        shutil.rmtree(_make_exit_path(writer_folder, digest), ignore_errors=True)
    return deletable


def _make_exit_path(writer_folder: Path, digest: PackDigest) -> Path:
    return writer_folder / f"removed-{digest.hex()}"


def _lock(packs_directory: Path, timeout_s: float, *, is_shared: bool) -> FileLock:
    lock = FileLock(packs_directory / _LOCK_NAME, is_shared=is_shared)
    busy = f"{packs_directory}: another process is removing or fetching packs; try again when it finishes"
    lock.take(timeout_s, busy=busy)
    return lock
