"""The transactions given to the functions of `Environment.view` and `Environment.update`.

Everything is copied out as bytes, so nothing that leaves a transaction depends on the map. LMDB's errors pass through
here untouched: the transaction's own boundary translates them, or acts on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import lmdb

from stockroom.errors import ClosedError, InvalidInputError
from stockroom.kv.translation import translate

MAX_KEY_NBYTES: Final = 511

Databases: TypeAlias = Mapping[str, Any]
"""Name -> lmdb's handle; None for a database that a read-only environment lacks: it reads as empty."""


class ReadTxn:
    """A consistent snapshot of an environment; valid only inside the function it is given to."""

    __slots__ = ("_databases", "_path", "_txn")

    def __init__(self, txn: Any, databases: Databases, *, path: Path) -> None:
        self._txn = txn
        self._databases = databases
        self._path = path

    def get(self, db: str, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        handle = self._databases[db]
        if handle is None:
            return None
        value: bytes | None = self._txn.get(key, None, handle)
        return value

    def count(self, db: str) -> int:
        """Return the number of keys in `db`."""
        handle = self._databases[db]
        return 0 if handle is None else int(self._txn.stat(handle)["entries"])

    def last(self, db: str) -> tuple[bytes, bytes] | None:
        """Return the greatest key and its value; None if `db` is empty."""
        return next(self.iterate(db, reverse=True), None)

    def iterate(
        self, db: str, start: bytes = b"", *, prefix: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys with `prefix` and their values, lazily, in order of key.

        Forward from the first key >= `start`; with `reverse`, backward from the last key <= `start`, or from the end if
        `start` is empty. Change `db` only once the iteration is over.

        Raises:
            ClosedError: the iterator is used after its transaction ended.
        """
        handle = self._databases[db]
        if handle is None:
            return
        try:
            with self._txn.cursor(handle) as cursor:
                if reverse:
                    found = _seek_last(cursor, start, end=_successor(prefix))
                    pairs = cursor.iterprev() if found else ()
                else:
                    found = cursor.set_range(max(start, prefix)) if start or prefix else cursor.first()
                    pairs = cursor.iternext() if found else ()
                for key, value in pairs:
                    if not key.startswith(prefix):
                        break
                    yield key, value
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def end(self) -> None:
        """Make every later use raise; called by the environment when the transaction is over."""
        self._txn = _ENDED


class WriteTxn(ReadTxn):
    """A snapshot that also takes changes; they become durable together, when the function returns."""

    __slots__ = ()

    def put(self, db: str, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        self._txn.put(key, value, True, True, False, self._databases[db])

    def put_new(self, db: str, key: bytes, value: bytes) -> bool:
        """Set `key` to `value` unless it exists; returns whether it was set."""
        return bool(self._txn.put(key, value, True, False, False, self._databases[db]))

    def append(self, db: str, key: bytes, value: bytes) -> None:
        """Set a `key` greater than all others, without a search.

        Raises:
            InvalidInputError: `key` is not greater than the last one.
        """
        if not self._txn.put(key, value, True, True, True, self._databases[db]):
            raise InvalidInputError(f"{db}: expected a key above the last one, found {key.hex()}")

    def delete(self, db: str, key: bytes) -> bool:
        """Remove `key`; returns whether it was there."""
        return bool(self._txn.delete(key, b"", self._databases[db]))


class _Ended:
    """Replaces lmdb's transaction once that is over."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise ClosedError("a transaction was used after its function returned")


_ENDED: Final = _Ended()


def _successor(prefix: bytes) -> bytes:
    """Return the least key above every key with `prefix`; empty if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def _seek_last(cursor: Any, start: bytes, *, end: bytes) -> bool:
    """Move to the last key <= `start` and < `end`, if given; returns whether there is one."""
    inclusive = bool(start) and not (end and start >= end)
    bound = start if inclusive else end
    if not bound or not cursor.set_range(bound):
        return bool(cursor.last())
    return (inclusive and cursor.key() == bound) or bool(cursor.prev())
