"""The index of chunk locations: a stack of location tables, searched newest first and merged as it grows.

Each table holds more than twice the rows of all newer ones together. So there are few tables, and a chunk is rewritten
a logarithmic number of times. A hit is only a candidate: `ChunkSearch` confirms it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, FormatVersionError, MalformedRecordError, StockroomError
from stockroom.files import write_own_file
from stockroom.kv import WriteTxn
from stockroom.locks import make_fork_lock
from stockroom.store.index.catalog import (
    TABLE_SUFFIX,
    Catalog,
    TableRecord,
    add_pack,
    list_packs,
    list_tables,
    name_table,
    next_sequence,
    remove_pack,
    replace_tables,
)
from stockroom.store.index.location_table import (
    ROW_BITS,
    LocationTable,
    compute_prefixes,
    decode_table,
    merge_tables,
    pack_locations,
    read_table,
    sort_table,
)
from stockroom.store.index.small_packs import note_small
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import Manifest, read_manifest

_INLINE_ROWS = 1024
_MERGE_MAX_ROWS = 1 << 26


@dataclass(frozen=True, slots=True)
class _Replaced:
    """The tables before an update, and the one that it added."""

    before: Sequence[TableRecord]
    new: TableRecord


class LocationIndex:
    """The location tables of one store."""

    def __init__(self, directory: Path, catalog: Catalog, packs_directory: Path) -> None:
        self._directory = directory
        self._catalog = catalog
        self._packs_directory = packs_directory
        self._lock = make_fork_lock()
        self._generation = -1
        self._tables: list[LocationTable] = []

    def iter_candidates(self, digests: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """Yield batches of `(positions in digests, candidate locations)`, newest tables first.

        A position is repeated as long as further entries share its prefix.
        """
        wanted = compute_prefixes(digests)
        for table in reversed(self._load()):
            index = table.find(wanted)
            found = np.flatnonzero(index < table.rows)
            while len(found):
                yield found, table.locations[index[found]]
                index[found] += 1
                inside = found[index[found] < table.rows]
                found = inside[table.prefixes[index[inside]] == wanted[inside]]

    def refresh(self) -> bool:
        """Load the additions of other processes; returns whether anything changed."""
        if self._catalog.read_generation() == self._generation:
            return False
        with self._lock:
            self._reload()
        return True

    def register(self, packs: Sequence[tuple[PackDigest, Manifest]], *, may_join: bool = True) -> None:
        """Add packs, already on disk and synced, to the catalog, and their chunks to the tables.

        With `may_join`, writers may join small ones with others later.
        """
        self._change(lambda txn: self._add_packs(txn, packs, may_join=may_join))

    def unregister(self, numbers: Sequence[int]) -> None:
        """Remove packs from the catalog and the tables, on disk too. Call this before their files are deleted."""
        self._change(lambda txn: self._drop_packs(txn, numbers))
        for number in numbers:
            self._catalog.forget(number)
        self._catalog.sync()

    def rebuild(self) -> None:
        """Rebuild all tables from the manifests of the registered packs; packs without a readable one leave."""
        self._change(self._rebuild)

    def iter_problems(self) -> Iterator[str]:
        """Yield descriptions of problems of the tables on disk: rows of registered packs that they do not find.

        Packs that are damaged or cannot be read are left out. Raises `UnreadableError` if a table cannot be read.
        """
        tables = []
        for record in self._catalog.read_tables()[1]:
            try:
                tables.append(self._open_table(record))
            except (FileNotFoundError, MalformedRecordError) as error:
                yield str(error)
                return
        merged = merge_tables(tables)
        if any((table.prefixes[1:] < table.prefixes[:-1]).any() for table in tables):
            yield "a location table is not sorted"
        order = np.argsort(merged.locations, kind="stable")
        locations, prefixes = merged.locations[order], merged.prefixes[order]
        for number, digest in self._catalog.read_packs().items():
            with contextlib.suppress(StockroomError):
                manifest = read_manifest(locate_pack(self._packs_directory, digest))
                wanted = pack_locations(number, manifest.rows)
                start, stop = np.searchsorted(locations, [wanted[0], wanted[-1] + 1]) if len(wanted) else (0, 0)
                is_whole = np.array_equal(locations[start:stop], wanted)
                if not is_whole or not np.array_equal(prefixes[start:stop], compute_prefixes(manifest.digests)):
                    yield f"location tables lack chunks of pack {digest.hex()}"

    def _change(self, change: Callable[[WriteTxn], _Replaced | None]) -> None:
        """Run `change` and load its result. If a table is lost or damaged, all are rebuilt first."""
        try:
            self._update(change)
        except (FileNotFoundError, MalformedRecordError):
            self._update(self._rebuild)
            self._update(change)
        self.refresh()

    def _update(self, change: Callable[[WriteTxn], _Replaced | None]) -> None:
        """Run `change`. If it wrote a file, delete those of tables that left the catalog in an earlier update.

        A power cut may undo this update, but none before it: the tables that it replaces are still needed then.
        """
        replaced = self._catalog.update(change)
        if replaced is not None and replaced.new.file is not None:
            needed = {table.file for table in (*replaced.before, replaced.new)}
            for path in self._directory.glob(f"*{TABLE_SUFFIX}"):
                if path.name < replaced.new.file and path.name not in needed:
                    path.unlink(missing_ok=True)

    def _rebuild(self, txn: WriteTxn) -> _Replaced:
        """Replace all tables by one rebuilt from the registered packs' manifests.

        A pack whose manifest is damaged leaves the catalog, so that its chunks are written again. Raises
        `UnreadableError`, and changes nothing, if one cannot be read now: it would be left out forever.
        """
        tables = []
        for number, digest in list_packs(txn).items():
            try:
                manifest = read_manifest(locate_pack(self._packs_directory, digest))
            except (CorruptionError, FormatVersionError):
                remove_pack(txn, number)
            else:
                tables.append(sort_table(compute_prefixes(manifest.digests), pack_locations(number, manifest.rows)))
        before = list_tables(txn)
        table = self._store_table(next_sequence(txn), merge_tables(tables))
        replace_tables(txn, before, table)
        return _Replaced(before, table)

    def _add_packs(
        self, txn: WriteTxn, packs: Sequence[tuple[PackDigest, Manifest]], *, may_join: bool
    ) -> _Replaced | None:
        prefixes, locations = [], []
        for digest, manifest in packs:
            number, is_new = add_pack(txn, digest)
            if is_new:
                prefixes.append(compute_prefixes(manifest.digests))
                locations.append(pack_locations(number, manifest.rows))
                if may_join:
                    note_small(txn, number, manifest)
        if not prefixes:
            return None
        new = sort_table(np.concatenate(prefixes), np.concatenate(locations))
        before = list_tables(txn)
        merged = _plan_merge(before, new.rows)
        table = merge_tables([*(self._open_table(record) for record in merged), new]) if merged else new
        stored = self._store_table(next_sequence(txn), table)
        replace_tables(txn, merged, stored)
        return _Replaced(before, stored)

    def _drop_packs(self, txn: WriteTxn, numbers: Sequence[int]) -> _Replaced:
        for number in numbers:
            remove_pack(txn, number)
        records = list_tables(txn)
        gone = np.array(numbers, np.uint64)
        whole = merge_tables([self._open_table(record) for record in records])
        keep = ~np.isin(whole.locations >> ROW_BITS, gone)
        table = LocationTable(whole.prefixes[keep], whole.locations[keep])
        stored = self._store_table(next_sequence(txn), table)
        replace_tables(txn, records, stored)
        return _Replaced(records, stored)

    def _store_table(self, sequence: int, table: LocationTable) -> TableRecord:
        if table.rows <= _INLINE_ROWS:
            return TableRecord(sequence, table.rows, None, table.encode())
        name = name_table(sequence)
        write_own_file(self._directory / name, table.encode())
        return TableRecord(sequence, table.rows, name, b"")

    def _open_table(self, record: TableRecord) -> LocationTable:
        if record.file is None:
            return decode_table(record.inline, where=f"catalog table {record.sequence}")
        return read_table(self._directory / record.file)

    def _load(self) -> list[LocationTable]:
        if self._generation < 0:
            with self._lock:
                self._reload()
        return self._tables

    def _reload(self) -> None:
        rebuilt = False
        while True:
            generation, records = self._catalog.read_tables()
            try:
                self._tables = [self._open_table(record) for record in records]
            except (FileNotFoundError, MalformedRecordError):
                # Merged away meanwhile, and found under its new name in the next round; or lost, and rebuilt once.
                if self._catalog.read_generation() == generation:
                    if rebuilt:
                        raise
                    self._update(self._rebuild)
                    rebuilt = True
            else:
                self._generation = generation
                return


def _plan_merge(records: list[TableRecord], new_rows: int) -> list[TableRecord]:
    """Return the newest tables to merge with one of `new_rows`, oldest first."""
    total, merged = new_rows, []
    for record in reversed(records):
        if record.rows >= 2 * total or record.rows > _MERGE_MAX_ROWS:
            break
        total += record.rows
        merged.append(record)
    return merged[::-1]
