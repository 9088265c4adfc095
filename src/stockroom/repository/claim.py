"""Claims: while a writer is at work it relies on things that nothing leads to yet, and gc must leave those alone.

A claim is a shared lock on a file named by the round of gc's marks (`refs.marks`) that the writer knows. What was
marked by then it does not rely on, so that may go under it; what is marked later stays until the writer is done. Locks
end with their process, so a killed writer claims nothing.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from stockroom.refs.marks import MarkStore
from stockroom.store.pack.place_lock import open_lock_file

_DIRECTORY: Final = "claims"


class Claim:
    """A claim held by this process until `release`, or its death."""

    def __init__(self, state: Path, marks: MarkStore) -> None:
        self._directory = state / _DIRECTORY
        self._marks = marks
        self._fd = -1
        self.round = -1
        self.renew()
        _held.add(self)

    def renew(self) -> bool:
        """Claim by the marks as they are now, for a writer that relies on nothing any more; whether they changed."""
        while (current := self._marks.read_round()) != self.round:
            fd = _lock_shared(self._directory, current)
            self.release()
            self._fd, self.round = fd, current
            if self._marks.read_round() == current:  # else gc may not have seen this claim: once more
                return True
        return False

    def release(self) -> None:
        """Claim nothing any more; harmless when repeated."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1  # first: an interrupt must not lead to closing another's file
            os.close(fd)

    def __del__(self) -> None:
        self.release()


def find_oldest_round(state: Path, current: int) -> int:
    """The oldest round that a living writer's claim is of; `current` if there is none older."""
    oldest = current
    for number, path in _iter_files(state / _DIRECTORY):
        if number < current and not _remove_if_free(path):
            oldest = min(oldest, number)
    return oldest


def _lock_shared(directory: Path, number: int) -> int:
    directory.mkdir(exist_ok=True)
    fd = open_lock_file(directory / str(number))
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _iter_files(directory: Path) -> Iterator[tuple[int, Path]]:
    if directory.is_dir():
        for path in directory.iterdir():
            if path.name.isdecimal():
                yield int(path.name), path


def _remove_if_free(path: Path) -> bool:
    """Remove the lock file of a round that nobody claims by; whether nobody does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


_held: weakref.WeakSet[Any] = weakref.WeakSet()


def _drop_inherited() -> None:
    for claim in list(_held):
        claim.release()


os.register_at_fork(after_in_child=_drop_inherited)
