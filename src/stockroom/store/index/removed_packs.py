"""The packs that left the catalog while location tables may still hold rows of them, kept in the catalog itself.

Rows of removed packs are skipped by every search, and dropped when their table is merged. Pack numbers only grow, so
each table holds the packs from its first number up to the first number of the next table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stockroom.kv import ReadTxn, WriteTxn
from stockroom.store.index.catalog import REMOVED, TableRecord, malformed_catalog
from stockroom.store.index.location_table import ROW_BITS, LocationTable, iter_spans

_FEW: Final = 1 << 14
_NUMBERS, _FIRSTS = b"numbers", b"firsts"
_firsts_decoder: Final = msgspec.msgpack.Decoder(dict[int, int])


@dataclass(frozen=True, slots=True, eq=False)
class RemovedPacks:
    """The `numbers` `(n,)` int64 of removed packs, ascending."""

    numbers: NDArray[np.int64]

    def mask(self, locations: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which locations are of removed packs, as `(n,)`."""
        if not len(self.numbers):
            return np.zeros(len(locations), bool)
        numbers = (locations >> ROW_BITS).astype(np.int64)
        if len(numbers) > _FEW:
            return np.isin(numbers, self.numbers)
        at = self.numbers.searchsorted(numbers)  # the first `isin` of a process loads much code
        is_removed: NDArray[np.bool_] = self.numbers[np.minimum(at, len(self.numbers) - 1)] == numbers
        return is_removed

    def drop(self, table: LocationTable) -> LocationTable:
        """Return the table without rows of removed packs."""
        is_removed = self.mask(table.locations)
        if not is_removed.any():
            return table
        return LocationTable(table.prefixes[~is_removed], table.locations[~is_removed])

    def count_kept(self, table: LocationTable) -> int:
        """Return how many rows of a table `drop` keeps; holds only a part of the table in memory."""
        if not len(self.numbers):
            return table.rows
        removed = 0
        for span in iter_spans(table.rows):
            removed += int(np.count_nonzero(self.mask(table.locations[span])))
            table.release()
        return table.rows - removed


def read_removed(txn: ReadTxn) -> RemovedPacks:
    """Return the removed packs that tables may still hold."""
    found = txn.get(REMOVED, _NUMBERS) or b""
    if len(found) % 4:
        raise malformed_catalog(f"numbers of removed packs in {len(found)} bytes")
    return RemovedPacks(np.frombuffer(found, ">u4").astype(np.int64))


def add_removed(txn: WriteTxn, numbers: Collection[int]) -> None:
    """Add packs that leave the catalog."""
    known = read_removed(txn).numbers
    _write_removed(txn, np.union1d(known, np.fromiter(numbers, np.int64, len(numbers))))


def clear_removed(txn: WriteTxn) -> None:
    """Forget all removed packs: no table holds them."""
    _write_removed(txn, np.empty(0, np.int64))
    txn.put(REMOVED, _FIRSTS, msgspec.msgpack.encode({}))


def set_first(txn: WriteTxn, table: TableRecord, number: int) -> None:
    """Note the least pack number that a new table may hold."""
    _write_firsts(txn, {**_read_firsts(txn), table.sequence: number})


def note_merge(
    txn: WriteTxn,
    before: Sequence[TableRecord],
    merged: Sequence[TableRecord],
    new: Sequence[TableRecord],
    dropped: RemovedPacks,
) -> None:
    """Forget removed packs that only the `merged` tables held, and whose rows a merge into `new` has `dropped`.

    `merged` are neighbors in `before`, all tables before the merge, oldest first. `new` is one table, or none if no row
    is left.
    """
    firsts = _read_firsts(txn)
    gone = {table.sequence for table in merged}
    if len(dropped.numbers):
        is_held = _mask_held(before, gone, firsts, dropped)
        _write_removed(txn, np.setdiff1d(read_removed(txn).numbers, dropped.numbers[~is_held], assume_unique=True))
    kept = {sequence: first for sequence, first in firsts.items() if sequence not in gone}
    if merged[0].sequence in firsts:
        kept |= {table.sequence: firsts[merged[0].sequence] for table in new}
    _write_firsts(txn, kept)


def _mask_held(
    before: Sequence[TableRecord], gone: Collection[int], firsts: Mapping[int, int], dropped: RemovedPacks
) -> NDArray[np.bool_]:
    """Return which of the `dropped` packs a table of `before` that is not `gone` may hold."""
    is_held = np.zeros(len(dropped.numbers), bool)
    stop: float = np.inf
    for table in reversed(before):
        first = firsts.get(table.sequence)
        if table.sequence not in gone:
            is_held |= (dropped.numbers >= (first or 0)) & (dropped.numbers < stop)
        stop = stop if first is None else min(stop, first)
    return is_held


def _write_removed(txn: WriteTxn, numbers: NDArray[np.int64]) -> None:
    encoded = numbers.astype(">u4").tobytes()
    if encoded != (txn.get(REMOVED, _NUMBERS) or b""):
        txn.put(REMOVED, _NUMBERS, encoded)


def _read_firsts(txn: ReadTxn) -> dict[int, int]:
    found = txn.get(REMOVED, _FIRSTS)
    if found is None:
        return {}
    try:
        return _firsts_decoder.decode(found)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise malformed_catalog(f"first packs of tables ({error})") from error


def _write_firsts(txn: WriteTxn, firsts: dict[int, int]) -> None:
    txn.put(REMOVED, _FIRSTS, msgspec.msgpack.encode(firsts))
