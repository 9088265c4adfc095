"""LMDB's lock file, in memory: one of its own for every process that opens a file, which no other process ever sees.

LMDB tells the processes in a lock file apart by their ids, and these repeat across pid namespaces: two containers
could not share one. The layout is that of LMDB 0.9 on a machine of 64 bits. `LockTable` checks it with a transaction
before anybody relies on it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from stockroom.errors import StockroomError
from stockroom.file_map import map_shared

HEADER_NBYTES: Final = 192
SLOT_NBYTES: Final = 64
PREFIX: Final = "stock-opening-"
"""How the name of an opening's folder begins. The folder exists for an instant."""
_OLD_S: Final = 600.0
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is closed to others
_TXNID: Final = 6
_SLOT_TXNID: Final = 16
_SLOT_PID: Final = 17
"""Positions in words of 8 bytes: the newest transaction, and the first reader's snapshot and process."""
_LOW_WORD: Final = (1 << 32) - 1
_NOT_A_PROCESS: Final = 1 << 30
_NO_SNAPSHOT: Final = (1 << 64) - 1


class LockTable:
    """The first words of a lock file: the newest transaction, and a reader's slot that stands for other processes."""

    def __init__(self, fd: int) -> None:
        """Map the lock file that is open as `fd`."""
        self._words = map_shared(fd, HEADER_NBYTES, writable=True).data.cast("Q")

    def reserve(self, env: Any, path: Path) -> None:
        """Check the layout, and keep the first slot for other processes' readers. `env` has never had a transaction.

        Raises:
            StockroomError: this LMDB has another layout.
        """
        self._check_layout(env, path)
        self._words[_SLOT_TXNID], self._words[_SLOT_PID] = _NO_SNAPSHOT, _NOT_A_PROCESS
        if str(_NOT_A_PROCESS) not in env.readers().split():
            raise _make_layout_error(path)

    def _check_layout(self, env: Any, path: Path) -> None:
        txn = env.begin()
        found = (self._words[_TXNID], self._words[_SLOT_TXNID], self._words[_SLOT_PID] & _LOW_WORD)
        expected = (txn.id(), txn.id(), os.getpid())
        txn.abort()
        if found != expected:
            raise _make_layout_error(path)  # the slot becomes free when this function leaves `txn`

    @property
    def newest(self) -> int:
        """The newest transaction: the next one sees it, or follows it."""
        return self._words[_TXNID]

    @newest.setter
    def newest(self, txnid: int) -> None:
        self._words[_TXNID] = txnid

    def set_oldest_reader(self, snapshot: int | None) -> None:
        """Keep the pages of `snapshot`, and of all later ones, from reuse; of none if None."""
        self._words[_SLOT_TXNID] = _NO_SNAPSHOT if snapshot is None else snapshot

    def close(self) -> None:
        """Unmap it."""
        self._words.release()


def _make_layout_error(path: Path) -> StockroomError:
    return StockroomError(f"{path}: this release of py-lmdb lays out its lock file in an unknown way; install lmdb 3.0")


@contextmanager
def private_folder(path: Path, max_readers: int) -> Iterator[tuple[Path, int]]:
    """Yield a folder to open in LMDB instead of `path`, and its lock file, open. The folder is gone after the block.

    The lock file has its blocks already: LMDB makes it sparse, and on a full disk the first touch of a page would kill
    the process (SIGBUS).
    """
    link = _make_link(path / "data.mdb")
    lock = link.with_name("lock.mdb")
    fd = -1
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, HEADER_NBYTES + SLOT_NBYTES * (max_readers - 1))
        yield link.parent, fd
    finally:
        if fd >= 0:
            os.close(fd)
            lock.unlink()
        link.unlink()
        link.parent.rmdir()


def _make_link(data: Path) -> Path:
    """Make a link of the same name to the file `data`, in a private folder: in memory if there is such a place."""
    for parent in (_MEMORY, data.parent, Path(tempfile.gettempdir())):
        _remove_old_folders(parent)
        link = parent / f"{PREFIX}{os.urandom(8).hex()}" / data.name
        try:
            link.parent.mkdir(mode=0o700)
            try:
                link.symlink_to(data)
            except OSError:
                link.parent.rmdir()
                raise
        except OSError as error:
            fault = error
        else:
            return link
    raise fault


def _remove_old_folders(parent: Path) -> None:
    """Remove the folders of openings that were killed on the way."""
    now_s = time.time()
    with suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            with suppress(OSError):  # of another user, or just removed
                if now_s - folder.stat().st_mtime > _OLD_S:
                    shutil.rmtree(folder, ignore_errors=True)
