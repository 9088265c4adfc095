"""Taking packs away: by one process at a time, out of the catalog first, and never half deleted in their place.

Two processes that each drop a copy of a chunk because the other still has one would lose it: whoever removes packs
holds the lock from its decision to the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.errors import LockedError
from stockroom.store.pack_cache import locate_pack
from stockroom.store.tensor_store import TensorStore

_LOCK_NAME = "removal.lock"


@contextmanager
def lock_removal(store: TensorStore) -> Iterator[None]:
    """Be the only process that removes packs of this store; `LockedError` if another one does."""
    fd = os.open(store.packs_directory / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"{store.packs_directory}: another process is removing packs; try again once it is done"
            ) from error
        yield
    finally:
        os.close(fd)


def remove_packs(store: TensorStore, packs: Mapping[int, PackDigest], session_directory: Path) -> None:
    """Unregister packs, by number, then delete their folders by way of `session_directory`, a writer's own."""
    if not packs:
        return
    store.index.unregister(list(packs))
    store.cache.forget()
    for digest in packs.values():
        _delete_folder(locate_pack(store.packs_directory, digest), session_directory)


def _delete_folder(directory: Path, session_directory: Path) -> None:
    away = session_directory / f"removed-{directory.name}"
    with suppress(FileNotFoundError):
        directory.rename(away)
    shutil.rmtree(away, ignore_errors=True)
