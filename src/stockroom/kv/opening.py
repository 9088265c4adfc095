"""Opening one LMDB environment's files: how writable they are, room for the lock table, a map that fits.

folder writable                          reads and writes, with locks
folder not writable, lock file writable  reads, with locks (another user's repository, shared by group)
neither                                  reads without locks (a read-only file system)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from stockroom.errors import NotFoundError, StockroomError
from stockroom.files import give_to_owner, make_folder
from stockroom.kv.file_system import check_local, find_file_system
from stockroom.kv.soundness import WRITE_LOCK_NAME, WRITE_PATIENCE_S, check_file, is_unwritten
from stockroom.kv.translation import translate
from stockroom.locks import FileLock

GIB: Final = 1 << 30
MAX_DATABASES: Final = 32
LOCK_HEADER_NBYTES: Final = 192
READER_SLOT_NBYTES: Final = 64
SMALLEST_FALLBACK_NBYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How to open an environment; the first opener in a process decides."""

    map_nbytes: int = 16 * GIB
    max_readers: int = 1024
    metasync: bool = True
    create: bool = True
    file_system: str | None = None
    """The kind of file system of its folder; detected if None."""


def open_lmdb(path: Path, options: OpenOptions, *, only_reading: bool = False) -> Any:
    """Open an `lmdb.Environment` on the folder `path`, and clear stale readers.

    It is read-only with `only_reading`, or if the folder cannot be written.

    Raises:
        NotFoundError: there is none and `options.create` is false.
        CorruptionError, FormatVersionError: the file is damaged, or of another version.
        StockroomError: it is on a network file system; no room on the disk, or for the map.
    """
    check_local(path, options.file_system or find_file_system(path))
    data = path / "data.mdb"
    if not data.exists():
        if not options.create:
            raise NotFoundError(f"{path}: expected an LMDB environment, found none")
        make_folder(path)
    modes = _choose_modes(path)
    modes["readonly"] |= only_reading
    is_new = not (data.exists() and (path / "lock.mdb").exists())
    try:
        if modes["lock"]:
            _reserve_lock_table(path / "lock.mdb", options.max_readers)
        with nullcontext() if modes["readonly"] else _hold_if_unwritten(path):
            env = _open_checked(path, options, modes)
        if is_new and not modes["readonly"]:
            for name in ("data.mdb", "lock.mdb"):
                give_to_owner(path / name)
    except lmdb.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise StockroomError(f"{path}: cannot be opened: {error.strerror or error}") from error
    return env


def open_databases(env: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return name -> handle, creating missing databases; None for those that a read-only environment lacks.

    No other transaction of this process may be open meanwhile. Waits for other processes that write, unless the
    environment is read-only: py-lmdb keeps no handle from a reading transaction of another one.
    """
    if not env.flags()["readonly"]:
        with env.begin(write=True) as txn:
            return {name: env.open_db(name.encode(), txn) for name in names}
    handles: dict[str, Any] = {}
    for name in names:
        try:
            handles[name] = env.open_db(name.encode(), create=False)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            handles[name] = None
    return handles


@contextmanager
def _hold_if_unwritten(path: Path) -> Iterator[None]:
    """Keep others from beginning the same file; leave nothing of one that a power cut kept from being begun."""
    data = path / "data.mdb"
    if not is_unwritten(data):
        yield
        return
    with FileLock(path / WRITE_LOCK_NAME) as lock:
        lock.take(WRITE_PATIENCE_S, busy=f"{path}: another process is making it")
        if data.exists() and is_unwritten(data):
            os.truncate(data, 0)  # LMDB takes it for a new one
        yield


def _choose_modes(path: Path) -> dict[str, bool]:
    """Return lmdb's `readonly` and `lock` for the permissions of this user in the folder."""
    data, lock = path / "data.mdb", path / "lock.mdb"
    writable = os.access(path, os.W_OK | os.X_OK) and (not data.exists() or os.access(data, os.W_OK))
    return {"readonly": not writable, "lock": writable or os.access(lock, os.R_OK | os.W_OK)}


def _open_checked(path: Path, options: OpenOptions, modes: dict[str, bool]) -> Any:
    check_file(path, readonly=modes["readonly"])
    env = _open_with_a_map_that_fits(path, options, modes)
    try:
        if modes["lock"]:
            env.reader_check()
    except BaseException:
        env.close()
        raise
    return env


def _open_with_a_map_that_fits(path: Path, options: OpenOptions, modes: dict[str, bool]) -> Any:
    """Halve the map while the operating system refuses it: an address space limit must not shut users out."""
    map_nbytes = options.map_nbytes
    while True:
        try:
            return lmdb.open(
                os.fsencode(path),  # as a name of any bytes
                map_size=map_nbytes,
                max_readers=options.max_readers,
                max_dbs=MAX_DATABASES,
                max_spare_txns=0,  # a cached reader slot would be the parent's in a forked child
                metasync=options.metasync,
                create=False,
                mode=0o777,  # less the umask, as for any other file
                **modes,
            )
        except lmdb.MemoryError:
            if map_nbytes <= SMALLEST_FALLBACK_NBYTES:
                raise
            map_nbytes //= 2


def _reserve_lock_table(lock: Path, max_readers: int) -> None:
    """Give the lock file its blocks before it is mapped.

    LMDB makes it sparse; on a full disk the first touch of a page would then kill the process (SIGBUS). Only
    done while nothing in this process holds the file: closing it would drop the process's locks on it.
    """
    if not hasattr(os, "posix_fallocate") or (lock.exists() and lock.stat().st_size):
        return
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(fd, 0, LOCK_HEADER_NBYTES + READER_SLOT_NBYTES * (max_readers - 1))
    finally:
        os.close(fd)
