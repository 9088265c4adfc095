"""Vectors in memory that the processes of one user on one machine share: mapped files, filled by all of them.

A vector is zeros until a process writes what it has found. So a large column is looked up once, and is in memory once,
for all workers of a data loader. Nothing checks the values again. So the name of a vector's file depends on everything
that the values depend on, on the user, and on the start of the machine: a power cut may garble a file. Files are a
cache and may be deleted at any time.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import compute_digest
from stockroom.files import make_folder

_SUFFIX: Final = ".vector"
_MAX_NBYTES: Final = 8 << 30
"""All vectors of a repository together; the oldest are deleted for a new one."""
_MAX_PART_OF_FREE: Final = 4
"""A vector takes at most one in this many of the free bytes of its disk."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_shared_vector(folder: Path, depends_on: bytes, nbytes: int) -> NDArray[np.uint8] | None:
    """Return the vector `(nbytes,)` in `folder` for `depends_on`, zeros that other processes fill too.

    Returns None if it cannot be shared: in a read-only folder, on a full disk, or if the system's starts have no name.
    """
    with suppress(OSError, ValueError):
        boot = _BOOT_ID.read_text().strip()
        key = b"%s %d %d %s" % (boot.encode(), os.geteuid(), nbytes, depends_on)
        path = folder / f"{boot}.{compute_digest(key).hex()[:32]}{_SUFFIX}"
        if not path.exists():
            _make_vector(path, nbytes)
        return _map_vector(path, nbytes)
    return None


def order_writes() -> None:
    """Let other processes see what this thread wrote before this call no later than what it writes afterwards.

    Likewise it reads afterwards what others wrote before. Some processors reorder both; taking a lock does not.
    """
    lock = threading.Lock()
    for _ in range(2):
        with lock:
            pass


def _map_vector(path: Path, nbytes: int) -> NDArray[np.uint8] | None:
    fd = os.open(path, _OPEN)
    try:
        found = os.fstat(fd)
        is_own = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
        if not stat.S_ISREG(found.st_mode) or not is_own or found.st_size != nbytes:
            return None
        os.utime(fd)
        return np.frombuffer(mmap.mmap(fd, nbytes), np.uint8)
    finally:
        os.close(fd)


def _make_vector(path: Path, nbytes: int) -> None:
    """Make a file of zeros that has its room on the disk: writing into a hole on a full one would end the process."""
    make_folder(path.parent)
    _make_room(path.parent, nbytes, boot=path.name.partition(".")[0])
    new = path.with_name(f"{os.urandom(8).hex()}{_SUFFIX}")
    fd = os.open(new, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(fd, 0, nbytes)
        with suppress(FileExistsError):  # another process was faster
            os.link(new, path)
    finally:
        os.close(fd)
        new.unlink()


def _make_room(folder: Path, nbytes: int, *, boot: str) -> None:
    """Delete vectors of earlier starts of the machine, and the oldest if all would take too much; raise `OSError`."""
    disk = os.statvfs(folder)
    if nbytes > min(_MAX_NBYTES, disk.f_bavail * disk.f_frsize // _MAX_PART_OF_FREE):
        raise OSError("no room for another vector")
    files = sorted(
        ((found.st_mtime_ns, found.st_size, path) for path in folder.glob(f"*{_SUFFIX}") for found in [path.lstat()]),
        reverse=True,
    )
    total = nbytes
    for _, size, path in files:
        total += size
        if total > _MAX_NBYTES or not path.name.startswith(boot):
            path.unlink(missing_ok=True)
