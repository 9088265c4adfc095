"""Claims: an active writer relies on things that are not reachable yet, and gc must keep them.

A claim is a shared lock on a file named by the round of gc's marks (`refs.marks`) that the writer has seen. The writer
does not rely on anything marked by then, so gc may delete it; anything marked later stays until the writer is done.
Locks end with their process, so a killed writer claims nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stockroom.digest import PackDigest
from stockroom.files import make_folder
from stockroom.locks import FileLock, remove_if_free
from stockroom.refs.marks import MarkStore

_DIRECTORY: Final = "claims"
_TIMEOUT_S: Final = 60.0
"""gc holds a claim's file only while it removes it."""


class Claim:
    """A claim that this process holds until `release` or its death."""

    def __init__(self, folder: Path, marks: MarkStore) -> None:
        self._directory = folder / _DIRECTORY
        self._marks = marks
        self._lock: FileLock | None = None
        self.round = -1
        self.packs: list[PackDigest] = []
        """The packs that the writer must not rely on: gc has marked them, or they are leaving."""
        self.renew()

    def renew(self) -> bool:
        """Claim the current round, for a writer that relies on nothing any more; return whether it is a new one."""
        while (current := self._marks.read_round()) != self.round:
            make_folder(self._directory)
            lock = FileLock(self._directory / str(current), is_shared=True)
            lock.take(_TIMEOUT_S, busy=f"{self._directory}: another process is running gc; try again")
            self.release()
            self._lock, self.round = lock, current
            found, packs = self._marks.read_marked_packs()
            if found == current:  # otherwise gc may not have seen this claim: try again
                self.packs = [PackDigest(pack) for pack in packs]
                return True
        return False

    def release(self) -> None:
        """Release the claim; harmless when repeated."""
        if self._lock is not None:
            self._lock.release()


def read_oldest_round(folder: Path, current: int) -> int:
    """Return the oldest round that a living writer claims, or `current` if none is older."""
    directory = folder / _DIRECTORY
    files = [path for path in directory.iterdir() if path.name.isdecimal()] if directory.is_dir() else []
    older = [path for path in files if int(path.name) < current]
    return min((int(path.name) for path in older if not remove_if_free(path)), default=current)
