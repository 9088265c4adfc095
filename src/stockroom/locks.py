"""Locks between processes, on whole files. No fork leaves one of them locked."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from stockroom.errors import LockedError, ReadOnlyError
from stockroom.files import give_to_owner
from stockroom.fork_locks import close_in_child, opening

_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FIRST_PAUSE_S: Final = 0.0005
_LAST_PAUSE_S: Final = 0.02
_MAX_NOTE_NBYTES: Final = 4096
_TRIES: Final = 100

_file_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An `flock` on a file, taken by `try_take`, `wait` or `take`; it ends with `release`, this object or its process.

    Each object opens the file separately, so two threads that take the same lock exclude each other just as two
    processes do. A forked child holds none of its parent's locks, and cannot release them, unless they are inherited.

    Args:
        path: the file, created unless it exists.
        is_shared: any number of holders may share it.
        is_inherited: forked children share the lock: it ends when the last of them has released it or ended.
        must_exist: do not create the file; raise `FileNotFoundError` if it does not exist.
        mode: the mode of a created file, less the umask.

    Raises:
        ReadOnlyError: the file cannot be opened for writing.
        OSError: `path` is a link, or the like.
    """

    def __init__(
        self,
        path: Path,
        *,
        is_shared: bool = False,
        is_inherited: bool = False,
        must_exist: bool = False,
        mode: int = 0o666,
    ) -> None:
        self._fd = self._pid = -1
        self._can_note = True
        self._path = path
        self._is_inherited = is_inherited
        self._how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        self._has_note = False
        try:
            with opening:
                _file_locks.add(self)
                if not is_inherited:
                    close_in_child(self)
                self._open(mode, must_exist=must_exist)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise ReadOnlyError(
                f"{path}: cannot write to this folder ({error.strerror}); only reads work here"
            ) from error

    def _open(self, mode: int, *, must_exist: bool) -> None:
        for _ in range(_TRIES):
            try:
                self._fd = os.open(self._path, _OPEN)
            except FileNotFoundError:
                if must_exist:
                    raise
            except PermissionError:
                if not os.access(self._path.parent, os.W_OK):
                    raise
                self._can_note = False  # another user's file, in our folder
                self._fd = os.open(self._path, _OPEN & ~os.O_RDWR)
            if self._fd >= 0:
                return
            with suppress(FileExistsError):
                self._fd = os.open(self._path, _OPEN | os.O_CREAT | os.O_EXCL, mode)
                self._close_to_readers()
                with suppress(FileNotFoundError):  # removed again at once, as files of claims are
                    give_to_owner(self._path)
                return
        raise LockedError(f"{self._path}: others make and remove it all the time; try again")

    def _close_to_readers(self) -> None:
        """Leave the new file only to those who may write it: anyone who can open a file can hold the lock on it."""
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        closed = sum(0o7 << shift for shift in (0, 3) if not mode & 0o2 << shift)
        if mode & closed:
            os.fchmod(self._fd, mode & ~closed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def is_in_place(self) -> bool:
        """Whether the open file is still the one at `path`, and not removed."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    @property
    def is_held(self) -> bool:
        """Whether this process itself holds it."""
        return self._fd >= 0 and self._pid == os.getpid()

    def fileno(self) -> int:
        """Return the open file, for a process that will inherit the lock."""
        return self._fd

    def try_take(self) -> bool:
        """Take the lock if it is free; returns whether it was."""
        try:
            fcntl.flock(self._fd, self._how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._pid = os.getpid()
        return True

    def wait(self, timeout_s: float, *, pause_s: float = _LAST_PAUSE_S) -> bool:
        """Take the lock; returns whether it became free within `timeout_s`. Polls at most `pause_s` apart."""
        deadline_s = time.monotonic() + timeout_s
        next_pause_s = _FIRST_PAUSE_S
        while not self.try_take():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(next_pause_s, left_s))
            next_pause_s = min(2 * next_pause_s, pause_s)
        return True

    def take(self, timeout_s: float, *, busy: str, pause_s: float = _LAST_PAUSE_S) -> None:
        """Take the lock once it is free; after `timeout_s`, raise `LockedError` with `busy` and the holder's id."""
        if not self.wait(timeout_s, pause_s=pause_s):
            error = self.make_busy_error(busy, timeout_s)
            self.release()
            raise error

    def make_busy_error(self, busy: str, timeout_s: float) -> LockedError:
        """Return the error for a lock that was not free within `timeout_s`: `busy`, and who holds which file."""
        pid = self.find_holder()
        if self.is_taken_here:
            who = "this process itself"
        else:
            who = "another process, perhaps in another container," if pid is None else f"process {pid}"
        return LockedError(f"{busy} (waited {timeout_s:g} s; {who} holds {self._path})", pid=pid)

    @property
    def is_taken_here(self) -> bool:
        """Whether this process holds the lock by another object, whatever path that one used."""
        with opening:
            others = [lock for lock in _file_locks if lock is not self]
        try:
            found = os.fstat(self._fd)
            return any(lock.is_held and os.path.samestat(found, os.fstat(lock._fd)) for lock in others)
        except OSError:  # one is being released
            return False

    def find_holder(self) -> int | None:
        """Return the id of a process that took the lock; None if the system does not say, as of one in a container."""
        try:
            found, lines = os.fstat(self._fd), Path("/proc/locks").read_text().splitlines()
        except OSError:
            return None
        name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for fields in map(str.split, lines):
            if fields[1] == "FLOCK" and fields[5] == name and int(fields[4]) > 0:
                return int(fields[4])
        return None

    def write_note(self, note: bytes) -> None:
        """Write a note about the holder into the file; `release` removes it."""
        if not self._can_note:
            return
        self._has_note = True
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, note, 0)

    def read_note(self) -> bytes:
        """Return the holder's note; it decides nothing, and may be anything."""
        return os.pread(self._fd, _MAX_NOTE_NBYTES, 0)

    def unlock(self) -> None:
        """Release the lock, and keep the file open to take it again."""
        if self.is_held:
            self._pid = -1
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def release(self) -> None:
        """Release the lock; harmless when repeated, and in a forked child."""
        if self.is_held and not self._is_inherited:  # unlocking would take it from the children as well
            self._pid = -1
            if self._has_note:
                os.ftruncate(self._fd, 0)
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # a child forked just now may keep the file open a moment longer
        self.leave()

    def leave(self) -> None:
        """Close the file without unlocking it: a process that inherited it holds the lock from now on."""
        with opening:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1  # first: after an interrupt, a second call must not close another file
                os.close(fd)


def remove_if_free(path: Path) -> bool:
    """Remove a lock file unless somebody holds its lock; return whether there is none any more."""
    try:
        lock = FileLock(path, must_exist=True)
    except FileNotFoundError:
        return True
    except ReadOnlyError:  # of a user whose files are closed to this one
        return False
    with lock:
        if not lock.try_take():
            return False
        path.unlink(missing_ok=True)
        return True
