"""Holds: a reader keeps the commits it reads from gc, for as long as it lives (design note 17).

A process lists the commits that it holds in a file of its own, `readers/<16 hex digits>`, and keeps the lock on it. The
file is a sequence of ids of 32 bytes; zeros are none. gc keeps the commits in files whose lock is taken. A process that
cannot make a file reads without one.
"""

from __future__ import annotations

import atexit
import os
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from stockroom.digest import DIGEST_NBYTES, CommitId
from stockroom.errors import LockedError, ReadOnlyError, StockroomError
from stockroom.files import find_regular, make_folder, refuse_unreadable
from stockroom.fork_locks import make_plain_fork_lock
from stockroom.locks import FileLock, remove_if_free

_DIRECTORY: Final = "readers"
_NAME: Final = re.compile(r"[0-9a-f]{16}")
_NONE: Final = CommitId(bytes(DIGEST_NBYTES))
_MAX_SLOTS: Final = 1 << 20
_TRIES: Final = 100
_PATIENCE_S: Final = 2.0


class Hold:
    """Keeps a commit and everything it needs from gc, until `release`, the end of this object, or of the process."""

    def __init__(self, folder: Path, commit: CommitId) -> None:
        """Hold a commit of the repository whose folder is `folder`. The commit may be gone already: look afterwards."""
        self.commit = commit
        self._file: _ReaderFile | None = None
        file = _files.get(folder) or _files.setdefault(folder, _ReaderFile(folder))
        if file.add(commit):
            self._file = file

    def release(self) -> None:
        """End the hold; harmless when repeated."""
        file, self._file = self._file, None
        if file is not None:
            file.remove(self.commit)

    def __del__(self) -> None:
        self.release()


class _ReaderFile:
    """The file that lists the commits held by this process in one repository: made with the first, gone with the last.

    A forked child shares the file, and its lock. From then on it is frozen: parent and child each replace it by a file
    of their own once their holds change.
    """

    def __init__(self, folder: Path) -> None:
        self._directory = folder / _DIRECTORY
        self._lock = make_plain_fork_lock()
        self._counts: dict[CommitId, int] = {}
        self._released: deque[CommitId] = deque()
        self._file: FileLock | None = None
        self._slots: dict[CommitId, int] = {}
        self._unused: list[int] = []
        self._forks = self._forks_before = 0
        """The forks so far, and those before the file was made."""

    def add(self, commit: CommitId) -> bool:
        """Hold a commit once more; return whether that worked: a signal handler may have interrupted this very method.

        Where nothing can be written, it works, and the commit is not listed.
        """
        if not self._lock.acquire(timeout=_PATIENCE_S):
            return False
        try:
            self._counts[commit] = self._counts.get(commit, 0) + 1
            with suppress(OSError, StockroomError):
                self._list(commit)
        finally:
            self._lock.release()
        self._settle()
        return True

    def remove(self, commit: CommitId) -> None:
        """End one hold of a commit. May be called at any moment, by the garbage collector too."""
        self._released.append(commit)
        self._settle()

    def freeze(self) -> None:
        """Leave the file as it is from now on: another process shares it."""
        self._forks += 1

    def end(self) -> None:
        """Remove the file: the process ends."""
        with self._lock:
            self._counts.clear()
            self._replace()

    def _settle(self) -> None:
        """Take released commits off the list, unless a caller that has the lock will do so."""
        while self._released and self._lock.acquire(blocking=False):
            try:
                with suppress(OSError, StockroomError):
                    self._unlist(self._drain())
            finally:
                self._lock.release()

    def _drain(self) -> list[CommitId]:
        """Return the released commits that have no hold left."""
        drained = []
        while self._released:
            commit = self._released.popleft()
            left = self._counts.pop(commit, 1) - 1
            if left:
                self._counts[commit] = left
            else:
                drained.append(commit)
        return [commit for commit in drained if commit in self._slots and commit not in self._counts]

    def _list(self, commit: CommitId) -> None:
        is_in_place = self._file is not None and self._file.is_in_place
        if is_in_place and commit in self._slots:
            return
        if self._is_frozen or not is_in_place:
            self._replace()
            return
        slot = self._unused.pop() if self._unused else len(self._slots)
        if slot == _MAX_SLOTS:
            return
        try:
            self._write(slot, commit)
        except OSError:
            self._unused.append(slot)
            raise
        self._slots[commit] = slot

    def _unlist(self, commits: Sequence[CommitId]) -> None:
        if not self._counts or (commits and self._is_frozen):
            self._replace()
            return
        for commit in commits:
            slot = self._slots.pop(commit)
            self._unused.append(slot)
            self._write(slot, _NONE)

    def _write(self, slot: int, commit: CommitId) -> None:
        assert self._file is not None
        os.pwrite(self._file.fileno(), commit, slot * DIGEST_NBYTES)

    @property
    def _is_frozen(self) -> bool:
        return self._forks != self._forks_before

    def _make(self) -> FileLock:
        """Make a file that lists all commits. It is locked before it lists any."""
        make_folder(self._directory)
        for _ in range(_TRIES):
            file = FileLock(self._directory / os.urandom(8).hex(), is_inherited=True)
            if file.try_take() and file.is_in_place:
                try:
                    os.pwrite(file.fileno(), b"".join(self._counts), 0)
                except OSError:
                    _close(file, is_shared=False)
                    raise
                return file
            file.release()  # gc saw it unlocked, and took it for one of a dead process
        raise LockedError(f"{self._directory}: another process removes new files there all the time")

    def _replace(self) -> None:
        """Continue with a file that lists the same commits, or without one if there are none."""
        forks = self._forks  # first: another thread may fork at any moment
        file = self._make() if self._counts else None
        old, old_forks = self._file, self._forks_before
        self._forks_before, self._file = forks, file
        self._slots = {} if file is None else {commit: slot for slot, commit in enumerate(self._counts)}
        self._unused = []
        if old is not None:
            _close(old, is_shared=old_forks != self._forks)


def list_held(folder: Path) -> set[CommitId]:
    """Return the commits that living processes hold, here or not.

    Raises `UnreadableError` if a file that may list some cannot be read.
    """
    directory, held, seen = folder / _DIRECTORY, set[CommitId](), set[str]()
    while new := _list_names(directory) - seen:  # again: a process may have replaced a file
        for name in new:
            held |= _read_held(directory / name)
        seen |= new
    return held


def remove_dead(folder: Path) -> None:
    """Remove the files of processes that have ended."""
    directory = folder / _DIRECTORY
    for name in _list_names(directory):
        with suppress(OSError):
            remove_if_free(directory / name)


def _list_names(directory: Path) -> set[str]:
    try:
        return {path.name for path in directory.iterdir() if _NAME.fullmatch(path.name)}
    except OSError as error:
        refuse_unreadable(error, directory)
        return set()


def _read_held(path: Path) -> set[CommitId]:
    try:
        if _is_free(path):
            return set()
    except OSError as error:  # a link or a folder is none of ours
        refuse_unreadable(error, path)
        return set()
    content = find_regular(path, max_nbytes=_MAX_SLOTS * DIGEST_NBYTES, must_know=True) or b""
    whole = range(0, len(content) - DIGEST_NBYTES + 1, DIGEST_NBYTES)
    return {CommitId(content[start : start + DIGEST_NBYTES]) for start in whole} - {_NONE}


def _is_free(path: Path) -> bool:
    try:
        lock = FileLock(path, is_shared=True, must_exist=True)
    except ReadOnlyError:  # of a user whose files are closed to this one
        return False
    with lock:
        return lock.try_take()


def _close(file: FileLock, *, is_shared: bool) -> None:
    """Close a file and remove it, unless a forked child may still share it, and does."""
    with suppress(OSError):
        if not is_shared:
            file.path.unlink()
    file.release()
    with suppress(OSError):
        if is_shared:
            remove_if_free(file.path)


_files: Final[dict[Path, _ReaderFile]] = {}


def _freeze_all() -> None:
    for file in list(_files.values()):
        file.freeze()


def _end_all() -> None:
    for file in list(_files.values()):
        file.end()


os.register_at_fork(after_in_parent=_freeze_all, after_in_child=_freeze_all)
atexit.register(_end_all)
