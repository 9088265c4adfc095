"""Opening one LMDB environment's file: for writing if the folder can be written, with a map that fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from stockroom.errors import NotFoundError, StockroomError
from stockroom.files import give_to_owner, is_exhaustion, make_folder, refuse_unreadable
from stockroom.kv.byte_locks import ByteLocks
from stockroom.kv.file_system import check_local, find_file_system, is_network
from stockroom.kv.lock_table import LockTable, private_folder
from stockroom.kv.opened import OpenedFile
from stockroom.kv.soundness import WRITE_LOCK_NAME, WRITE_PATIENCE_S, check_file, is_unwritten
from stockroom.kv.translation import translate
from stockroom.locks import FileLock

GIB: Final = 1 << 30
MAX_DATABASES: Final = 32
SMALLEST_FALLBACK_NBYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How to open an environment; the first opener in a process decides."""

    map_nbytes: int = 16 * GIB
    max_readers: int = 256
    metasync: bool = True
    create: bool = True
    file_system: str | None = None
    """The kind of file system of its folder; detected if None."""

    def find_file_system(self, path: Path) -> str | None:
        """Return the kind of file system of `path`, as far as is known."""
        return self.file_system or find_file_system(path)


def open_lmdb(path: Path, options: OpenOptions, *, only_reading: bool = False) -> OpenedFile:
    """Open LMDB's file in the folder `path`: for reading with `only_reading`, or if this process cannot write there.

    Raises:
        NotFoundError: there is none and `options.create` is false.
        CorruptionError, FormatVersionError: the file is damaged, or of another version.
        UnreadableError: this process may not open more files.
        StockroomError: a new one on a network file system; no room on the disk, or for the map.
    """
    data = path / "data.mdb"
    if not data.exists():
        if not options.create:
            raise NotFoundError(f"{path}: expected an LMDB environment, found none")
        check_local(path, options.find_file_system(path))
        make_folder(path)
    try:
        if only_reading or not is_writable(path, options):
            return _open_for_reading(path, options)
        return _open_for_writing(path, options)
    except lmdb.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        if is_exhaustion(error):
            refuse_unreadable(error, path)
        raise StockroomError(f"{path}: cannot be opened: {error.strerror or error}") from error


def is_writable(path: Path, options: OpenOptions) -> bool:
    """Return whether this process may write LMDB's file in the folder `path`."""
    data = path / "data.mdb"
    if is_network(options.find_file_system(path)):
        return False
    return os.access(path, os.W_OK | os.X_OK) and (not data.exists() or os.access(data, os.W_OK))


def _open_for_reading(path: Path, options: OpenOptions) -> OpenedFile:
    check_file(path, readonly=True)
    env = _open_with_a_map_that_fits(path, options, readonly=True)
    return _keep_open(env, path, None)


def _open_for_writing(path: Path, options: OpenOptions) -> OpenedFile:
    data = path / "data.mdb"
    with _hold_if_unwritten(path):
        is_new = not data.exists()
        check_file(path, readonly=False)
        with private_folder(path, options.max_readers) as (folder, lock_fd):
            table = LockTable(lock_fd)
            try:
                env = _open_with_a_map_that_fits(folder, options, readonly=False)
            except BaseException:
                table.close()
                raise
        opened = _keep_open(env, path, table)
        if is_new:
            give_to_owner(data)
        return opened


def _keep_open(env: Any, path: Path, table: LockTable | None) -> OpenedFile:
    """Return the opened file; close it again if that fails."""
    with ExitStack() as stack:
        stack.callback(env.close)
        if table is not None:
            table.reserve(env, path)
        readers = ByteLocks(path / "data.mdb", must_work=table is not None)
        opened = OpenedFile(env, readers, table, path=path)
        stack.pop_all()
    return opened


def open_databases(opened: OpenedFile, names: Sequence[str]) -> dict[str, Any]:
    """Return name -> handle, creating missing databases; None for those that a read-only environment lacks.

    No other transaction of this process may be open meanwhile. The caller holds the write lock, unless the file is
    open for reading only: py-lmdb keeps no handle from a reading transaction of another one.
    """
    if not opened.readonly:
        with opened.begin_write() as txn:
            return {name: opened.env.open_db(name.encode(), txn) for name in names}
    handles: dict[str, Any] = {}
    with opened.reading():
        for name in names:
            try:
                handles[name] = opened.env.open_db(name.encode(), create=False)
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


def _open_with_a_map_that_fits(path: Path, options: OpenOptions, *, readonly: bool) -> Any:
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
                readonly=readonly,
                lock=not readonly,
            )
        except lmdb.MemoryError:
            if map_nbytes <= SMALLEST_FALLBACK_NBYTES:
                raise
            map_nbytes //= 2
