"""The one open LMDB environment that all handles of a process on one path share.

Runs transactions, grows the map, adopts growth by other processes, and reopens after a failed write. A function given
to `view` inside a transaction of the same thread joins it; `update` inside one is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from stockroom.errors import ClosedError, LockedError, ReadOnlyError, StockroomError
from stockroom.kv.file_system import check_local
from stockroom.kv.gate import Gate
from stockroom.kv.opening import OpenOptions, is_writable, open_databases, open_lmdb
from stockroom.kv.soundness import WRITE_LOCK_NAME, WRITE_PATIENCE_S
from stockroom.kv.transaction import ReadTxn, WriteTxn
from stockroom.kv.translation import translate
from stockroom.locks import FileLock

T = TypeVar("T")

MAX_BEGIN_ATTEMPTS: Final = 8
FORK_PATIENCE_S: Final = 5.0
WRITE_PAUSE_S: Final = 0.002


class _Current(threading.local):
    """The transaction this thread is in."""

    txn: ReadTxn | None = None


class SharedEnvironment:
    """An LMDB environment of this process, counted by its handles."""

    def __init__(self, path: Path, options: OpenOptions) -> None:
        self.path = path
        self.pid = os.getpid()
        self.options = options
        self.handles = 0
        self._gate = Gate()
        self._writing = threading.Lock()  # some releases of py-lmdb refuse a second writing thread, not let it wait
        self._current = _Current()
        self._quiet = False
        self._broken = False
        self._write_lock: FileLock | None = None
        self._has_write_lock = False
        self._is_upgradable = False
        self._databases: dict[str, Any] = {}
        self._opened = open_lmdb(path, options)
        self.file_id = find_file_id(path)

    def view(self, fn: Callable[[ReadTxn], T]) -> T:
        """Call `fn` with a snapshot; returns its result."""
        outer = self._current.txn
        if outer is not None:
            return self._view_inside(fn, outer)
        raw = txn = None
        try:
            raw = self._begin(write=False)
            txn = self._current.txn = ReadTxn(raw, self._databases, path=self.path)
            return fn(txn)
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        finally:
            self._current.txn = None
            if txn is not None:
                txn.end()
            if raw is not None:
                if os.getpid() == self.pid:  # in a child forked by `fn` the snapshot belongs to the parent
                    self._opened.end_read(raw)
                self._gate.leave()

    def _view_inside(self, fn: Callable[[ReadTxn], T], outer: ReadTxn) -> T:
        try:
            return fn(outer)
        except lmdb.Error as error:
            if isinstance(outer, WriteTxn):  # its own boundary acts on the error
                raise
            raise translate(error, self.path) from error

    def update(self, fn: Callable[[WriteTxn], T]) -> T:
        """Call `fn` and make its changes durable; returns its result. `fn` runs again after the map has grown."""
        self.refuse_inside("updated")
        self.check_writable()
        with self._hold_writing(), self._hold_write_lock():
            self._upgrade()
            while True:
                try:
                    return self._update_once(fn)
                except lmdb.MapFullError:
                    self._grow(self.map_nbytes)
                except lmdb.Error as error:
                    self._broken = self._broken or isinstance(error, lmdb.PanicError)
                    raise translate(error, self.path) from error

    def check_writable(self) -> None:
        """Raise `ReadOnlyError`, with the reason, if the file can only be opened for reading."""
        if self.readonly:
            check_local(self.path, self.options.find_file_system(self.path))
            raise ReadOnlyError(f"cannot write {self.path}; check the folder's permissions and how it is mounted")

    @contextmanager
    def _hold_writing(self) -> Iterator[None]:
        """Keep other threads of this process from writing."""
        if not self._writing.acquire(timeout=WRITE_PATIENCE_S):
            raise LockedError(
                f"{self.path}: another thread of this process is writing there (waited {WRITE_PATIENCE_S:g} s); "
                "start the program again if it has stopped"
            )
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _hold_write_lock(self, timeout_s: float | None = None) -> Iterator[None]:
        """Keep other processes from writing."""
        if self.readonly:  # LMDB refuses
            yield
            return
        lock, self._write_lock = self._write_lock or FileLock(self.path / WRITE_LOCK_NAME), None
        busy = f"{self.path}: another process is writing there; end it if it has stopped"
        lock.take(WRITE_PATIENCE_S if timeout_s is None else timeout_s, busy=busy, pause_s=WRITE_PAUSE_S)
        self._has_write_lock = True
        try:
            yield
        finally:
            self._has_write_lock = False
            lock.unlock()
            self._write_lock = lock

    def _upgrade(self) -> None:
        """Open the files for writing if they were opened only for reading. The caller holds the write lock."""
        if self._is_upgradable:
            with self._gate.alone():
                self._open_again(only_reading=False)

    def _update_once(self, fn: Callable[[WriteTxn], T]) -> T:
        raw = txn = None
        try:
            raw = self._begin(write=True)
            txn = self._current.txn = WriteTxn(raw, self._databases, path=self.path)
            result = fn(txn)
            self._refuse_in_child()
            raw.commit()
        except BaseException:
            if raw is not None and os.getpid() == self.pid:
                raw.abort()
            raise
        else:
            return result
        finally:
            self._current.txn = None
            if txn is not None:
                txn.end()
            if raw is not None:
                self._gate.leave()

    def _begin(self, *, write: bool) -> Any:
        """Begin a raw transaction, with this thread past the gate."""
        attempts = 0
        while True:
            try:
                self._gate.enter()
                return self._opened.begin_write() if write else self._opened.begin_read()
            except lmdb.Error as error:
                self._gate.leave()
                attempts += 1
                if attempts == MAX_BEGIN_ATTEMPTS or not self._recover(error):
                    raise translate(error, self.path) from error
            except BaseException:
                self._gate.leave()
                raise

    def _recover(self, error: lmdb.Error) -> bool:
        """Fix the cause of a transaction's failure to begin; returns whether to try again."""
        if isinstance(error, lmdb.MapResizedError):
            self._resize(0)
            return True
        if self._broken or isinstance(error, lmdb.PanicError):
            self._reopen()
            return True
        return False

    def sync(self) -> None:
        """Bring every committed transaction to disk."""
        self.refuse_inside("synced")
        try:
            self._gate.enter()
            self._opened.env.sync(True)
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        finally:
            self._gate.leave()

    def refuse_inside(self, what: str) -> None:
        """Raise `StockroomError` if this thread is in a transaction, in which the environment cannot be `what`."""
        if self._current.txn is not None:
            raise StockroomError(f"{self.path}: cannot be {what} while this thread is in a transaction")

    def _refuse_in_child(self) -> None:
        if os.getpid() != self.pid:
            raise ClosedError(f"{self.path}: a write transaction belongs to the process that began it")

    @property
    def map_nbytes(self) -> int:
        """The size of the memory map: how far the file may grow before the map must."""
        return int(self._opened.env.info()["map_size"])

    def _grow(self, seen_nbytes: int) -> None:
        """Double the map, unless another thread has since `seen_nbytes` was read."""
        with self._gate.alone():
            if self.map_nbytes <= seen_nbytes:
                self._set_map_size(2 * seen_nbytes)

    def _resize(self, map_nbytes: int) -> None:
        with self._gate.alone():
            self._set_map_size(map_nbytes)

    def _set_map_size(self, map_nbytes: int) -> None:
        """Set the map's size; 0 adopts the size to which another process has grown the file."""
        try:
            self._opened.env.set_mapsize(map_nbytes)
        except lmdb.Error as error:
            self._broken = True
            raise translate(error, self.path) from error

    @property
    def readonly(self) -> bool:
        """Whether the files can only be opened for reading."""
        return self._opened.readonly and not self._is_upgradable

    def add_path(self, path: Path) -> None:
        """Write by way of `path` from now on if the first opener's path is read-only and this one is not."""
        if self.readonly and path != self.path and is_writable(path, self.options):
            with self._gate.alone():
                self.path, self._is_upgradable = path, True

    def add_databases(self, names: Sequence[str]) -> None:
        """Make `names` usable in transactions, creating missing databases."""
        missing = [name for name in names if name not in self._databases]
        if not missing:
            return
        self.refuse_inside("opened with more databases")
        with self._hold_writing():
            self._databases |= dict.fromkeys(missing)
            try:
                self._add_databases(missing)
            except BaseException:
                for name in missing:
                    del self._databases[name]
                raise

    def _add_databases(self, names: Sequence[str]) -> None:
        """Open databases; only for reading if another process is writing, so that no reader waits for a writer."""
        try:
            with self._hold_write_lock(timeout_s=0), self._gate.alone():
                self._open_databases(names)
        except (LockedError, ReadOnlyError):
            with self._gate.alone():
                self._open_again(only_reading=True)
        if self._is_upgradable and any(self._databases[name] is None for name in names):
            with self._hold_write_lock():
                self._upgrade()

    def _open_again(self, *, only_reading: bool) -> None:
        """Open the files again. The caller is `alone`, and holds the write lock unless `only_reading`."""
        was_readonly = self.readonly
        self._opened.close()
        self._opened = open_lmdb(self.path, self.options, only_reading=only_reading)
        self._is_upgradable = only_reading and not was_readonly
        self._open_databases(list(self._databases))

    def _open_databases(self, names: Sequence[str]) -> None:
        while True:
            try:
                self._databases |= open_databases(self._opened, names)
                return
            except (lmdb.MapFullError, lmdb.MapResizedError) as error:
                self._set_map_size(2 * self.map_nbytes if isinstance(error, lmdb.MapFullError) else 0)
            except lmdb.Error as error:
                raise translate(error, self.path) from error

    def _reopen(self) -> None:
        """Reopen after LMDB declared the environment unusable, as it does after a half-done write."""
        with self._gate.alone():
            if not self._broken:
                return
            self._open_again(only_reading=not self._has_write_lock)
            self._broken = False

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no thread of this process is in a transaction, or can begin one."""
        return self._gate.alone()

    def close(self) -> None:
        """Close the files. The caller is `alone`."""
        self._opened.close()
        if self._write_lock is not None:
            self._write_lock.release()

    def quiesce(self) -> None:
        """Let running transactions end before a fork, so the child does not inherit them."""
        self._quiet = self._current.txn is None and self._gate.shut(FORK_PATIENCE_S)

    def resume(self) -> None:
        """Open the gate again after a fork, in the parent."""
        if self._quiet:
            self._quiet = False
            self._gate.open()

    def abandon(self) -> None:
        """Release the parent's environment, in the child of a fork, without touching its reader slots.

        Raises:
            StockroomError: the parent was inside a transaction, which cannot be released.
        """
        if not self._quiet:
            raise StockroomError(
                f"{self.path}: this process was forked inside a transaction and cannot use the repository; "
                "use the spawn start method"
            )
        with suppress(lmdb.Error):
            self._opened.close()


def find_file_id(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the environment's file in the folder `path`; None if there is none."""
    try:
        status = (path / "data.mdb").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
