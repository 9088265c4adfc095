"""The catalog: the packs of this store by number, and the location tables that index them.

It is a cache in its own LMDB environment. It can be rebuilt from the packs (`unregistered`), and the packs always
overrule it. Pack numbers are never reused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from stockroom.digest import DIGEST_NBYTES, PackDigest
from stockroom.errors import malformed
from stockroom.kv import Environment, ReadTxn, WriteTxn
from stockroom.store.index.small_packs import DATABASE as SMALL
from stockroom.store.index.small_packs import forget_due, forget_small, is_joinable, list_due, list_group

TABLE_SUFFIX = ".table"
_PACKS, _NUMBERS, _TABLES, _META = "packs", "numbers", "tables", "meta"
REMOVED = "removed"
"""The database of `RemovedPacks`."""
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
malformed_catalog = partial(
    malformed, "catalog", "a valid record", advice="delete the folders catalog and index to rebuild them"
)
T = TypeVar("T")


class TableRecord(msgspec.Struct, frozen=True, array_like=True):
    """One location table: its row count and its bytes, which are inline or in a file of the index folder."""

    sequence: int
    rows: int
    file: str | None
    inline: bytes


_MAX_ROWS = 1 << 40
_encode_table = msgspec.msgpack.Encoder().encode
_table_decoder = msgspec.msgpack.Decoder(TableRecord)


class Catalog:
    """The catalog in `directory`; safe to share between threads and across fork."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        databases = (_PACKS, _NUMBERS, _TABLES, _META, REMOVED, SMALL)
        self._env = Environment.open(directory, databases=databases, metasync=False)
        self._digests: dict[int, PackDigest] = {}

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def view(self, read: Callable[[ReadTxn], T]) -> T:
        """Run `read` in one read transaction."""
        return self._env.view(read)

    def update(self, change: Callable[[WriteTxn], T]) -> T:
        """Run `change` in one write transaction."""
        return self._env.update(change)

    def sync(self) -> None:
        """Bring all updates to disk: a power cut may undo the last one, but none before it."""
        self._env.sync()

    def read_identity(self) -> bytes | None:
        """Return a name that no catalog before or after has: pack numbers begin again in a new one.

        None if this catalog is older than such names, or its file is gone.
        """
        identity = self._env.view(lambda txn: _get_counter(txn, b"identity"))
        with suppress(OSError):
            file = (self.directory / "data.mdb").stat()
            return b"%d %d %d" % (identity, file.st_dev, file.st_ino) if identity else None
        return None

    def find_digest(self, number: int) -> PackDigest | None:
        """Return the digest of pack `number`, or None if it is gone."""
        digest = self._digests.get(number)
        if digest is None:
            found = self._env.view(lambda txn: txn.get(_PACKS, _U32.pack(number)))
            if found is None:
                return None
            digest = self._digests[number] = _decode_digest(found)
        return digest

    def read_packs(self) -> dict[int, PackDigest]:
        """Return every registered pack by number."""
        return self._env.view(list_packs)

    def read_due(self) -> list[bytes]:
        """Return the groups of small packs that are due to be joined."""
        return self._env.view(list_due)

    def read_small(self, group: bytes, limit: int) -> dict[int, int]:
        """Return up to `limit` packs of a group of small packs, oldest first: their raw bytes by number."""
        return dict(self._env.view(lambda txn: list_group(txn, group, limit)))

    def select_joinable(self, numbers: Collection[int]) -> set[int]:
        """Return those of these packs that are small and that writers may join."""
        return self._env.view(lambda txn: {number for number in numbers if is_joinable(txn, number)})

    def forget_due(self, group: bytes) -> None:
        """Take a group of small packs as not due until another is added to it."""
        self._env.update(lambda txn: forget_due(txn, group))

    def keep_apart(self, packs: Collection[PackDigest]) -> None:
        """Let these packs stay as they are: writers no longer join them with others."""
        if self._env.view(lambda txn: any(is_joinable(txn, number) for number in _list_numbers(txn, packs))):
            self._env.update(lambda txn: _keep_apart(txn, packs))

    def read_generation(self) -> int:
        """Return a number that grows with every change of the catalog."""
        return self._env.view(read_generation)

    def read_tables(self) -> tuple[int, list[TableRecord]]:
        """Return the generation, and the location tables, oldest first."""
        return self._env.view(lambda txn: (read_generation(txn), list_tables(txn)))

    def forget(self, number: int) -> None:
        """Forget everything this process cached about a pack number."""
        self._digests.pop(number, None)


def add_pack(txn: WriteTxn, digest: PackDigest) -> tuple[int, bool]:
    """Add a pack unless it is there; returns its number, and whether it is new to the catalog."""
    known = txn.get(_NUMBERS, digest)
    if known is not None:
        return _decode_number(_U32, known), False
    number = _get_counter(txn, b"next pack")
    txn.put(_META, b"next pack", _U64.pack(number + 1))
    txn.put(_PACKS, _U32.pack(number), digest)
    txn.put(_NUMBERS, digest, _U32.pack(number))
    return number, True


def remove_pack(txn: WriteTxn, number: int) -> None:
    """Remove a pack from the catalog; its number is not used again."""
    digest = txn.get(_PACKS, _U32.pack(number))
    if digest is not None:
        txn.delete(_PACKS, _U32.pack(number))
        txn.delete(_NUMBERS, digest)
        forget_small(txn, number)


def _keep_apart(txn: WriteTxn, packs: Collection[PackDigest]) -> None:
    for number in _list_numbers(txn, packs):
        forget_small(txn, number)


def _list_numbers(txn: ReadTxn, packs: Collection[PackDigest]) -> list[int]:
    found = [txn.get(_NUMBERS, digest) for digest in packs]
    return [_decode_number(_U32, number) for number in found if number is not None]


def list_packs(txn: ReadTxn) -> dict[int, PackDigest]:
    """Return every registered pack by number."""
    return {_decode_number(_U32, key): _decode_digest(value) for key, value in txn.iterate(_PACKS)}


def list_tables(txn: ReadTxn) -> list[TableRecord]:
    """Return the location tables, oldest first."""
    return [decode_table_record(value) for _, value in txn.iterate(_TABLES)]


def decode_table_record(data: bytes) -> TableRecord:
    """Decode a table record; raises `MalformedRecordError` if it is malformed or names another table's file."""
    try:
        record = _table_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise malformed_catalog(f"a table record ({error})") from error
    if record.file not in (None, name_table(record.sequence)) or not 0 <= record.rows < _MAX_ROWS:
        raise malformed_catalog(f"a table record of {record.rows} rows in the file {record.file!r}")
    return record


def name_table(sequence: int) -> str:
    """Return the name of a table's file."""
    return f"{sequence:012d}{TABLE_SUFFIX}"


def next_sequence(txn: WriteTxn) -> int:
    """Return a new table sequence number, which becomes the catalog's generation."""
    sequence = _get_counter(txn, b"generation") + 1
    txn.put(_META, b"generation", _U64.pack(sequence))
    if not _get_counter(txn, b"identity"):
        txn.put(_META, b"identity", os.urandom(8))
    return sequence


def replace_tables(txn: WriteTxn, old: Sequence[TableRecord], new: Sequence[TableRecord]) -> None:
    """Replace the `old` tables by `new`."""
    for table in old:
        txn.delete(_TABLES, _U64.pack(table.sequence))
    for table in new:
        txn.put(_TABLES, _U64.pack(table.sequence), _encode_table(table))


def read_generation(txn: ReadTxn) -> int:
    """Return a number that grows with every change of the catalog."""
    return _get_counter(txn, b"generation")


def _get_counter(txn: ReadTxn, key: bytes) -> int:
    value = txn.get(_META, key)
    return _decode_number(_U64, value) if value else 0


def _decode_number(fields: struct.Struct, data: bytes) -> int:
    if len(data) != fields.size:
        raise malformed_catalog(f"a number of {len(data)} bytes")
    return int(fields.unpack(data)[0])


def _decode_digest(data: bytes) -> PackDigest:
    if len(data) != DIGEST_NBYTES:
        raise malformed_catalog(f"a digest of {len(data)} bytes")
    return PackDigest(data)
