"""Reads files with a limit, and writes them so that they appear in one step, never through a link.

A folder may come from a stranger. Opening a file in it by name must not block, fill the memory, or lead out of it.
A power cut leaves the old file or the new one, never an empty one: its content is on disk before its name is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from stockroom.errors import InvalidInputError, MalformedRecordError, UnreadableError

FileIdentity: TypeAlias = tuple[int, int]
"""Device and inode. As long as a file is open, no other has the same."""

MAX_NBYTES: Final = 1 << 20
FILE_MODE: Final = 0o666
"""The mode of new files, less the umask, so that a group can share a repository."""
NEW_SUFFIX: Final = ".new"
"""Ends the name of a file that is about to replace another; a kill may leave one."""
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SUCH_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_ADVICE: Final = {
    errno.EMFILE: "close files, or raise the limit (ulimit -n)",
    errno.ENFILE: "close files, here or in other programs, or raise the limit (sysctl fs.file-max)",
    errno.ENOMEM: "release views (`column.view`) and other maps, or raise the limit (ulimit -v, vm.max_map_count)",
    errno.EACCES: "check who may read there",
    errno.EPERM: "check who may read there",
    errno.EIO: "the disk may be failing: copy the readable files elsewhere",
}
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def read_own_file(path: Path, *, max_nbytes: int = MAX_NBYTES) -> bytes:
    """Return the file's content.

    Raises:
        FileNotFoundError: there is none.
        MalformedRecordError: it is larger than `max_nbytes`, or a pipe, a device or the like.
    """
    fd = os.open(path, _READ)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_nbytes:
            what = f"{found.st_size} bytes" if stat.S_ISREG(found.st_mode) else "no regular file"
            raise MalformedRecordError(
                f"{path}: expected a file of at most {max_nbytes} bytes, found {what}; restore or remove it",
                where=str(path),
            )
        with open(fd, "rb", closefd=False) as file:
            return file.read(max_nbytes)
    finally:
        os.close(fd)


def identify(status: os.stat_result) -> FileIdentity:
    """Return the identity of the file that a status is about."""
    return status.st_dev, status.st_ino


def refuse_unreadable(error: OSError, where: object, *, start: int | None = None, stop: int | None = None) -> None:
    """Raise `UnreadableError` unless an error in reading says for certain that there is no such file."""
    if error.errno in _NO_SUCH_FILE:
        return
    part = "" if start is None else f"bytes {start} to {stop} "
    advice = _ADVICE.get(error.errno or 0, "try again")
    raise UnreadableError(
        f"{where}: {part}could not be read ({error.strerror or error}); {advice}",
        where=str(where),
        errno=error.errno,
        start=start,
        stop=stop,
    ) from error


def is_exhaustion(error: OSError | UnreadableError) -> bool:
    """Return whether this process ran out of something: nothing else can be opened either."""
    return error.errno in _EXHAUSTED


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; raises `UnreadableError` if that cannot be known."""
    try:
        path.stat()
    except OSError as error:
        refuse_unreadable(error, path)
        return False
    return True


def find_regular(path: Path, *, max_nbytes: int, must_know: bool = False) -> bytes | None:
    """Return the content of a regular file; None if it is missing, larger, of another kind, or unreadable.

    With `must_know`, raises `UnreadableError` if it is unreadable.
    """
    try:
        return read_own_file(path, max_nbytes=max_nbytes)
    except (ValueError, MalformedRecordError):
        return None
    except OSError as error:
        if must_know:
            refuse_unreadable(error, path)
        return None


def write_own_file(path: Path, content: bytes | memoryview, *, mode: int = FILE_MODE, must_last: bool = True) -> None:
    """Write the file, with `mode` less the umask, and sync its content unless it need not outlast a power cut.

    Raises `OSError` if there is a link in its place.
    """
    with open_own_file(path, mode=mode) as file:
        file.write(content)
        if must_last:
            file.flush()
            os.fsync(file.fileno())


def open_own_file(path: Path, *, mode: int = FILE_MODE) -> BinaryIO:
    """Open an empty file for writing, with `mode` less the umask; raises `OSError` if there is a link in its place."""
    fd = os.open(path, _WRITE, mode)
    give_to_owner(path)
    return open(fd, "wb")  # noqa: PTH123 - there is no path without following links


def replace_own_file(
    path: Path, content: bytes, *, mode: int = FILE_MODE, through: Path | None = None, must_last: bool = True
) -> None:
    """Replace the file at `path` in one step, by one that is on disk when this returns.

    Args:
        mode: the new file's mode, less the umask.
        through: the folder in which it is written first, on the same file system; None is its own.
        must_last: False syncs nothing: after a power cut the file may be the old one, or empty.
    """
    folder = path.parent if through is None else through
    replacement = folder / f"{path.name}.{os.urandom(8).hex()}{NEW_SUFFIX}"  # two may replace it at the same time
    try:
        write_own_file(replacement, content, mode=mode, must_last=must_last)
        replacement.rename(path)
    except BaseException:
        replacement.unlink(missing_ok=True)
        raise
    if must_last:
        sync_path(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and the missing ones above it, unless it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """Give files that root made in another user's folder to that user, who could not write them otherwise."""
    if os.geteuid() != 0:
        return
    folder, found = path.parent.stat(), path.lstat()
    if found.st_uid != folder.st_uid:
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def sync_path(path: Path) -> None:
    """Bring a file's content to disk, or the names in a folder and all earlier changes of names."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_data(fd: int) -> None:
    """Bring an open file's content to disk, and of its metadata only what reading it needs, where the system can."""
    getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Provide a file to write that replaces `path` once the block succeeds.

    Raises `InvalidInputError` if `path` is a folder, or its parent folder does not exist.
    """
    if path.is_dir():
        raise InvalidInputError(f"expected a file path, found the folder {path}; add a file name")
    if not path.parent.is_dir():
        raise InvalidInputError(f"{path}: the folder {path.parent} does not exist; create it first")
    part = path.with_name(f".stockroom-{os.urandom(8).hex()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_path(path.parent)
    finally:
        part.unlink(missing_ok=True)


def try_exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; returns False, with nothing done, if the system or file system cannot."""
    import ctypes  # here for start-up time

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(done == 0)
