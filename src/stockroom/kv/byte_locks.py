"""Locks between processes on single bytes of a file, by number."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Final

from stockroom.errors import LockedError
from stockroom.fork_locks import close_in_child, opening

_IS_LINUX: Final = sys.platform.startswith("linux")
_FLOCK: Final = struct.Struct("hhqqi4x" if _IS_LINUX else "qqihh")
"""`struct flock`: on Linux type, whence, start, length, process; elsewhere start, length, process, type, whence."""
_SET_LOCK: Final[int] = getattr(fcntl, "F_OFD_SETLK", 90)
_GET_LOCK: Final[int] = getattr(fcntl, "F_OFD_GETLK", 92)
"""Locks of an open file, not of a process: no other close of the file ends them. The numbers are those of macOS."""
_UNUSED: Final = 1 << 62
"""A byte that is no snapshot's. Locking it shows whether the file system has such locks."""


class ByteLocks:
    """Shared locks on bytes of a file, by number, each held any number of times; they need no right to write.

    They tell other processes which numbers are in use, in other containers too, and end with this object or the
    process. A forked child holds none of its parent's. If the file system has no such locks, raises `LockedError` with
    `must_work`, and holds nothing otherwise.
    """

    def __init__(self, path: Path, *, must_work: bool = True) -> None:
        self._path = path
        self._works = True
        self._counts: dict[int, int] = {}
        self._mutex = threading.RLock()
        self._fd = self._looking_fd = -1
        with opening:
            close_in_child(self)
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._looking_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # sees the locks of the other one too
        try:
            self._set(fcntl.F_RDLCK, _UNUSED)
            self._set(fcntl.F_UNLCK, _UNUSED)
        except LockedError:
            self._works = False
            if must_work:
                raise

    def __del__(self) -> None:
        self.leave()

    def fileno(self) -> int:
        """Return the open file, for reading."""
        return self._fd

    def hold(self, number: int) -> None:
        """Hold the lock on `number` once more."""
        with self._mutex:
            self._counts[number] = self._counts.get(number, 0) + 1
            try:
                self._set(fcntl.F_RDLCK, number)  # each time: a signal handler may have let it go just now
            except LockedError:
                self._count_down(number)
                raise

    def let_go(self, number: int) -> None:
        """End one hold of `number`."""
        with self._mutex:
            if not self._count_down(number):
                self._set(fcntl.F_UNLCK, number)

    def _count_down(self, number: int) -> int:
        left = self._counts.pop(number) - 1
        if left:
            self._counts[number] = left
        return left

    def find_least(self) -> int | None:
        """Return the least number that anybody holds, this process included; None if there is none."""
        least, end = None, 0  # 0 is the end of the file, which may be anywhere
        while least != 0:
            found = self._find_before(end)
            if found is None:
                break
            least = end = found
        return least

    def _set(self, how: int, number: int) -> None:
        if self._works:  # never blocks: all locks are shared
            self._call(self._fd, _SET_LOCK, _pack_lock(how, number))

    def _find_before(self, end: int) -> int | None:
        fields = _FLOCK.unpack(self._call(self._looking_fd, _GET_LOCK, _pack_lock(fcntl.F_WRLCK, 0, length=end)))
        how, start = (fields[0], fields[2]) if _IS_LINUX else (fields[3], fields[0])
        return None if how == fcntl.F_UNLCK else int(start)

    def _call(self, fd: int, what: int, lock: bytes) -> bytes:
        try:
            return fcntl.fcntl(fd, what, lock)
        except OSError as error:
            raise LockedError(
                f"{self._path}: its file system or the system has no lock to give ({error.strerror}); keep the "
                "repository on a local disk, or end some processes"
            ) from error

    def leave(self) -> None:
        """Close the file: this process holds nothing any more."""
        with opening:
            fds = (self._fd, self._looking_fd)
            self._fd = self._looking_fd = -1
            for fd in fds:
                if fd >= 0:
                    os.close(fd)


@lru_cache(64)
def _pack_lock(how: int, start: int, *, length: int = 1) -> bytes:
    if _IS_LINUX:
        return _FLOCK.pack(how, os.SEEK_SET, start, length, 0)
    return _FLOCK.pack(start, length, 0, how, os.SEEK_SET)
