"""Claims: while a writer is at work it relies on things that nothing leads to yet, and gc must leave those alone.

A claim is a shared lock on a file named by the round of gc's marks (`refs.marks`) that the writer knows. What was
marked by then it does not rely on, so that may go under it; what is marked later stays until the writer is done. Locks
end with their process, so a killed writer claims nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stockroom.locks import FileLock
from stockroom.refs.marks import MarkStore

_DIRECTORY: Final = "claims"
_TIMEOUT_S: Final = 60.0
"""gc holds a claim's file for no longer than it takes to remove it."""


class Claim:
    """A claim held by this process until `release`, or its death."""

    def __init__(self, state: Path, marks: MarkStore) -> None:
        self._directory = state / _DIRECTORY
        self._marks = marks
        self._lock: FileLock | None = None
        self.round = -1
        self.renew()

    def renew(self) -> bool:
        """Claim by the marks as they are now, for a writer that relies on nothing any more; whether they changed."""
        while (current := self._marks.read_round()) != self.round:
            lock = _lock_shared(self._directory, current)
            self.release()
            self._lock, self.round = lock, current
            if self._marks.read_round() == current:  # else gc may not have seen this claim: once more
                return True
        return False

    def release(self) -> None:
        """Claim nothing any more; harmless when repeated."""
        if self._lock is not None:
            self._lock.release()


def find_oldest_round(state: Path, current: int) -> int:
    """The oldest round that a living writer's claim is of; `current` if there is none older."""
    oldest = current
    for number, path in _iter_files(state / _DIRECTORY):
        if number < current and not _remove_if_free(path):
            oldest = min(oldest, number)
    return oldest


def _lock_shared(directory: Path, number: int) -> FileLock:
    directory.mkdir(exist_ok=True)
    lock = FileLock(directory / str(number), is_shared=True)
    lock.take(_TIMEOUT_S, busy=f"{directory}: another process is clearing up; try again")
    return lock


def _iter_files(directory: Path) -> Iterator[tuple[int, Path]]:
    if directory.is_dir():
        for path in directory.iterdir():
            if path.name.isdecimal():
                yield int(path.name), path


def _remove_if_free(path: Path) -> bool:
    """Remove the lock file of a round that nobody claims by; whether nobody does."""
    try:
        lock = FileLock(path, must_exist=True)
    except FileNotFoundError:
        return True
    with lock:
        if not lock.try_take():
            return False
        path.unlink(missing_ok=True)
        return True
