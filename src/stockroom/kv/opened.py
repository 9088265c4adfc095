"""An LMDB file opened in this process, with what keeps its processes apart, in containers too.

LMDB's own lock file is private to the process (`lock_table`). Between processes:

- one writes at a time: the caller of `begin_write` holds `write.lock`;
- a reader holds a shared lock on the byte of the file whose number is that of its snapshot;
- a writer asks the system for the least of these bytes before it begins, and reuses no page of that snapshot or a
  later one.

The system ends a lock with its process. Such locks need no right to write, and reach across pid namespaces.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from stockroom.errors import LockedError
from stockroom.file_map import map_shared
from stockroom.kv.byte_locks import ByteLocks
from stockroom.kv.lock_table import LockTable

_TRIES: Final = 1000
_CLOSED: Final = "Attempt to operate on closed/deleted/dropped object."
"""What LMDB says then, as `translation` knows it."""
_PAGE_NBYTES: Final = struct.Struct("40xI")
_TXNID: Final = 18
"""The position of a meta page's transaction in it, in words of 8 bytes."""


class MetaPages:
    """LMDB's two meta pages, in memory: a transaction that commits writes the older one."""

    def __init__(self, fd: int) -> None:
        """Map the pages of the LMDB file that is open as `fd`."""
        (nbytes,) = _PAGE_NBYTES.unpack(os.pread(fd, _PAGE_NBYTES.size, 0))
        self._words = map_shared(fd, 2 * nbytes).data.cast("Q")
        self._other_txnid = nbytes // 8 + _TXNID

    def read_newest(self) -> int:
        """Return the newest transaction that is committed."""
        try:
            first, second = self._words[_TXNID], self._words[self._other_txnid]
        except ValueError:
            raise lmdb.Error(_CLOSED) from None
        return first if first > second else second

    def close(self) -> None:
        """Unmap them."""
        self._words.release()


class OpenedFile:
    """An `lmdb.Environment` whose transactions begin here only. Without a `table`, it is open for reading."""

    def __init__(self, env: Any, readers: ByteLocks, table: LockTable | None, *, path: Path) -> None:
        self.env = env
        self.path = path
        self._readers = readers
        self._table = table
        self._beginning = threading.RLock()
        self._metas = MetaPages(readers.fileno())

    @property
    def readonly(self) -> bool:
        """Whether it is open for reading only."""
        return self._table is None

    def begin_read(self) -> Any:
        """Begin a transaction that sees the newest snapshot; no writer reuses its pages until `end_read`."""
        for _ in range(_TRIES):
            snapshot, raw = self._metas.read_newest(), None
            self._readers.hold(snapshot)
            try:
                raw = self._begin_after(snapshot)
                if raw.id() == snapshot == self._metas.read_newest():  # else a writer may not have seen the hold
                    return raw
                raw.abort()
            except BaseException:
                if raw is not None:
                    raw.abort()
                self._readers.let_go(snapshot)
                raise
            self._readers.let_go(snapshot)
        raise LockedError(f"{self.path}: other processes commit all the time; try again")

    def end_read(self, raw: Any) -> None:
        """End a transaction of `begin_read`."""
        snapshot = raw.id()
        raw.abort()
        self._readers.let_go(snapshot)

    def begin_write(self) -> Any:
        """Begin a transaction that writes. The caller holds the write lock, and is the only thread to write."""
        if self._table is None:
            return self.env.begin(write=True)  # LMDB refuses
        with self._beginning:
            snapshot = self._metas.read_newest()
            self._table.set_oldest_reader(self._readers.find_least())
            raw = self._begin_after(snapshot, write=True)
        if raw.id() != snapshot + 1:
            raw.abort()
            raise lmdb.Error(f"expected to write transaction {snapshot + 1}, found {raw.id()}")
        return raw

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the newest snapshot, and all later ones, from being overwritten during the block."""
        raw = self.begin_read()
        try:
            yield
        finally:
            self.end_read(raw)

    def _begin_after(self, snapshot: int, *, write: bool = False) -> Any:
        if self._table is None or self._table.newest == snapshot:
            return self.env.begin(write=write)
        with self._beginning:
            self._table.newest = snapshot
            return self.env.begin(write=write)

    def close(self) -> None:
        """Close the file; in a forked child, what the child inherited of it."""
        self.env.close()
        self._readers.leave()
        self._metas.close()
        if self._table is not None:
            self._table.close()
