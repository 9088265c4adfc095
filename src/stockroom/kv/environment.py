"""The handle that the rest of Stockroom holds on an LMDB environment.

A forked child never touches an inherited environment: a handle used there opens an environment of the child's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from stockroom.errors import ClosedError, StockroomError
from stockroom.kv.opening import GIB, OpenOptions
from stockroom.kv.register import Register
from stockroom.kv.shared import SharedEnvironment
from stockroom.kv.transaction import ReadTxn, WriteTxn

T = TypeVar("T")


_register: Final = Register()
_register.watch_forks()


class Environment:
    """Named ordered maps of bytes in one folder; transactions are functions.

    Safe to share between threads and to keep across a fork; refuses to be pickled.
    """

    __slots__ = ("_closed", "_databases", "_options", "_shared", "path")

    def __init__(self, path: Path, databases: Sequence[str], options: OpenOptions) -> None:
        self._closed = True
        self.path = path
        self._databases = tuple(databases)
        self._options = options
        self._shared = _register.take(path, self._databases, options)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        databases: Sequence[str],
        map_nbytes: int = 16 * GIB,
        max_readers: int = 256,
        metasync: bool = True,
        create: bool = True,
        file_system: str | None = None,
    ) -> Environment:
        """Return a handle on the environment in the folder `path`.

        If the process has it open already, the options of the first opener apply. Without `metasync`, a crash of the
        machine may lose the last update, but never half of one.

        Raises:
            NotFoundError: there is none and `create` is false.
            CorruptionError, FormatVersionError: its file is damaged, or of another version.
            StockroomError: it is on a network file system; `file_system` is the folder's kind, detected if None.
        """
        options = OpenOptions(
            map_nbytes=map_nbytes, max_readers=max_readers, metasync=metasync, create=create, file_system=file_system
        )
        return cls(Path(os.path.realpath(path)), databases, options)

    def view(self, fn: Callable[[ReadTxn], T]) -> T:
        """Call `fn` with a consistent snapshot, or this thread's current transaction; returns its result.

        Raises:
            ClosedError: the handle is closed.
            LockedError: live processes occupy every reader slot.
        """
        return self._attached().view(fn)

    def update(self, fn: Callable[[WriteTxn], T]) -> T:
        """Call `fn` and make all its writes durable together; returns its result. An exception in `fn` discards them.

        Waits for the writer of another process. `fn` may run more than once: again after the map grew.

        Raises:
            ClosedError: the handle is closed.
            ReadOnlyError: the folder cannot be written.
            StockroomError: the disk is full; or called inside another transaction of this thread.
        """
        return self._attached().update(fn)

    def sync(self) -> None:
        """Bring every update so far to disk, which without `metasync` may lack the last one."""
        self._attached().sync()

    @property
    def readonly(self) -> bool:
        """Whether the folder could only be opened for reading."""
        return self._attached().readonly

    def check_writable(self) -> None:
        """Raise `ReadOnlyError`, with the reason, if no update would work here."""
        self._attached().check_writable()

    @property
    def map_nbytes(self) -> int:
        """The size of the memory map, which grows as needed."""
        return self._attached().map_nbytes

    def close(self) -> None:
        """Close this handle; the files close with the last one. Closing twice is fine.

        Raises:
            StockroomError: it is the last handle, used inside a transaction of this thread.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._shared.pid == os.getpid():
                _register.give_back(self._shared)
        except StockroomError:
            self._closed = False
            raise

    def _attached(self) -> SharedEnvironment:
        if self._closed:
            raise ClosedError(f"{self.path} is closed; open the repository again")
        if self._shared.pid != os.getpid():
            self._shared = _register.take(self.path, self._databases, self._options)
        return self._shared

    def __enter__(self) -> Environment:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and self._shared.pid == os.getpid():
            self._closed = True
            _register.drop(self._shared)

    def __repr__(self) -> str:
        return f"<Environment {self.path}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Environment cannot be pickled; send its path and open it there")
