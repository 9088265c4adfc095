"""The index of chunk locations: a stack of location tables, searched newest first and merged as it grows.

Small tables are merged by the transaction that adds a table, larger ones by `merge`: in a new file, beside running
writers, by one process at a time. So there are few tables, a chunk is rewritten a logarithmic number of times, and no
commit waits for a large merge. A hit is only a candidate: `ChunkSearch` confirms it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, FormatVersionError, MalformedRecordError, StockroomError
from stockroom.files import NEW_SUFFIX, sync_path, write_own_file
from stockroom.fork_locks import make_fork_lock
from stockroom.kv import ReadTxn, WriteTxn
from stockroom.locks import FileLock
from stockroom.store.index.catalog import (
    TABLE_SUFFIX,
    Catalog,
    TableRecord,
    add_pack,
    list_packs,
    list_tables,
    name_table,
    next_sequence,
    read_generation,
    remove_pack,
    replace_tables,
)
from stockroom.store.index.location_table import (
    LocationTable,
    compute_prefixes,
    decode_table,
    iter_matches,
    iter_spans,
    merge_tables,
    pack_locations,
    read_table,
    sort_table,
)
from stockroom.store.index.merge_plan import FREE_ROWS, plan_merge, plan_small_merge, select_large
from stockroom.store.index.removed_packs import (
    RemovedPacks,
    add_removed,
    clear_removed,
    note_merge,
    read_removed,
    set_first,
)
from stockroom.store.index.small_packs import note_small
from stockroom.store.index.table_merge import write_merged
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import Manifest, read_manifest

_ROWS_PER_ADDED = 16
"""For each row that it adds, a process may merge this many: a row is merged once for each doubling of the index."""
_MAX_REMOVED_PART = 0.25
_INLINE_ROWS = 1024
_GROUP_ROWS = 1 << 20
_MERGE_LOCK_NAME = "merge.lock"


@dataclass(frozen=True, slots=True)
class _Replaced:
    """The tables before an update, and those that it added."""

    before: Sequence[TableRecord]
    new: Sequence[TableRecord]


@dataclass(frozen=True, slots=True)
class _Records:
    """What the catalog says of the tables in one snapshot."""

    generation: int
    tables: list[TableRecord]
    removed: RemovedPacks


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The records of a snapshot, and their tables, open, oldest first."""

    records: _Records
    tables: list[LocationTable]


class LocationIndex:
    """The location tables of one store."""

    def __init__(self, directory: Path, catalog: Catalog, packs_directory: Path) -> None:
        self._directory = directory
        self._catalog = catalog
        self._packs_directory = packs_directory
        self._lock = make_fork_lock()
        self._loaded: _Loaded | None = None
        self._mergeable_rows = 0

    def iter_candidates(self, digests: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """Yield batches of `(positions in digests, candidate locations)`, newest tables first.

        A position is repeated as long as further entries share its prefix. Removed packs are left out.
        """
        loaded = self._load()
        for positions, locations in iter_matches(loaded.tables, digests):
            is_kept = ~loaded.records.removed.mask(locations)
            yield positions[is_kept], locations[is_kept]

    def refresh(self) -> bool:
        """Load the additions of other processes; returns whether anything changed."""
        loaded = self._loaded
        if loaded is not None and self._catalog.read_generation() == loaded.records.generation:
            return False
        with self._lock:
            self._reload()
        return True

    def register(self, packs: Sequence[tuple[PackDigest, Manifest]], *, may_join: bool = True) -> None:
        """Add packs, already on disk and synced, to the catalog, and their chunks to the tables.

        With `may_join`, writers may join small ones with others later.
        """
        self._change(lambda txn: self._add_packs(txn, packs, may_join=may_join))
        self._mergeable_rows += _ROWS_PER_ADDED * sum(manifest.rows for _, manifest in packs)

    def unregister(self, numbers: Sequence[int]) -> None:
        """Remove packs from the catalog, on disk too. Call this before their files are deleted.

        Their rows leave the tables when these are merged.
        """
        self._change(lambda txn: _drop_packs(txn, numbers))
        for number in numbers:
            self._catalog.forget(number)
        self._catalog.sync()

    def merge_due(self) -> None:
        """Merge tables that have become too many, as far as this process has added enough rows to pay for it."""
        max_rows = max(FREE_ROWS, self._mergeable_rows)
        self._mergeable_rows = max(0, self._mergeable_rows - self.merge(max_rows=max_rows))

    def merge(self, *, max_rows: int | None = None) -> int:
        """Merge tables that have become too many, unless another process does; returns the rows read.

        No writer waits meanwhile. A merge that fails changes nothing and raises nothing: the tables still answer. With
        `max_rows` None, also rewrite tables in which more than a quarter of the rows are of removed packs.
        """
        if max_rows is not None and not plan_merge(self._load().records.tables, max_rows):
            return 0
        with contextlib.suppress(StockroomError, OSError), FileLock(self._directory / _MERGE_LOCK_NAME) as lock:
            if lock.try_take():
                for leftover in self._directory.glob(f"*{NEW_SUFFIX}"):
                    leftover.unlink(missing_ok=True)
                return self._merge(max_rows)
        return 0

    def rebuild(self) -> None:
        """Rebuild all tables from the manifests of the registered packs; packs without a readable one leave."""
        self._change(self._rebuild)

    def iter_problems(self) -> Iterator[str]:
        """Yield descriptions of problems of the tables on disk: rows of registered packs that they do not find.

        Packs that are damaged or cannot be read are left out. Raises `UnreadableError` if a table cannot be read.
        """
        try:
            tables = [self._open_table(record) for record in self._catalog.read_tables()[1]]
        except (FileNotFoundError, MalformedRecordError) as error:
            yield str(error)
            return
        if not all(map(_is_sorted, tables)):
            yield "a location table is not sorted"
        for group in self._iter_manifests():
            digests = np.concatenate([manifest.digests for _, _, manifest in group])
            expected = np.concatenate([pack_locations(number, manifest.rows) for number, _, manifest in group])
            is_found = np.zeros(len(digests), bool)
            for positions, locations in iter_matches(tables, digests):
                is_found[positions[locations == expected[positions]]] = True
            stops = np.cumsum([manifest.rows for _, _, manifest in group])
            for (_, digest, _), found in zip(group, np.split(is_found, stops[:-1]), strict=True):
                if not found.all():
                    yield f"location tables lack chunks of pack {digest.hex()}"

    def _iter_manifests(self) -> Iterator[list[tuple[int, PackDigest, Manifest]]]:
        """Yield the registered packs with a sound manifest, by number, in groups of bounded size."""
        group: list[tuple[int, PackDigest, Manifest]] = []
        rows = 0
        for number, digest in self._catalog.read_packs().items():
            with contextlib.suppress(StockroomError):
                group.append((number, digest, read_manifest(locate_pack(self._packs_directory, digest))))
                rows += group[-1][2].rows
            if rows >= _GROUP_ROWS:
                yield group
                group, rows = [], 0
        if group:
            yield group

    def _change(self, change: Callable[[WriteTxn], _Replaced | None]) -> None:
        """Run `change` and load its result. If a table is lost or damaged, all are rebuilt first."""
        try:
            self._update(change)
        except (FileNotFoundError, MalformedRecordError):
            self._update(self._rebuild)
            self._update(change)
        self.refresh()

    def _update(self, change: Callable[[WriteTxn], _Replaced | None]) -> bool:
        """Run `change`; returns whether it replaced tables.

        If it wrote files, delete those of tables that left the catalog in an earlier update. A power cut may undo this
        update, but none before it: the tables that it replaces are still needed then.
        """
        replaced = self._catalog.update(change)
        written = [] if replaced is None else [table.file for table in replaced.new if table.file is not None]
        if replaced is not None and written:
            needed = {table.file for table in (*replaced.before, *replaced.new)}
            for path in self._directory.glob(f"*{TABLE_SUFFIX}"):
                if path.name < max(written) and path.name not in needed:
                    path.unlink(missing_ok=True)
        return replaced is not None

    def _rebuild(self, txn: WriteTxn) -> _Replaced:
        """Replace all tables by those rebuilt from the registered packs' manifests.

        A pack whose manifest is damaged leaves the catalog, so that its chunks are written again. Raises
        `UnreadableError`, and changes nothing, if one cannot be read now: it would be left out forever.
        """
        before, new = list_tables(txn), []
        clear_removed(txn)
        for packs in self._iter_sound_packs(txn):
            new.append(self._store_table(next_sequence(txn), _make_table(packs)))
            set_first(txn, new[-1], packs[0][0])
        if not new:
            next_sequence(txn)
        replace_tables(txn, before, new)
        return _Replaced(before, new)

    def _iter_sound_packs(self, txn: WriteTxn) -> Iterator[list[tuple[int, Manifest]]]:
        """Yield the registered packs, by number, in groups of bounded size; damaged ones leave the catalog."""
        group: list[tuple[int, Manifest]] = []
        rows = 0
        for number, digest in list_packs(txn).items():
            try:
                group.append((number, read_manifest(locate_pack(self._packs_directory, digest))))
            except (CorruptionError, FormatVersionError):
                remove_pack(txn, number)
                continue
            rows += group[-1][1].rows
            if rows >= _GROUP_ROWS:
                yield group
                group, rows = [], 0
        if group:
            yield group

    def _add_packs(
        self, txn: WriteTxn, packs: Sequence[tuple[PackDigest, Manifest]], *, may_join: bool
    ) -> _Replaced | None:
        added = [(*add_pack(txn, digest), manifest) for digest, manifest in packs]
        fresh = [(number, manifest) for number, is_new, manifest in added if is_new]
        for number, manifest in fresh if may_join else ():
            note_small(txn, number, manifest)
        if not fresh:
            return None
        before, removed, table = list_tables(txn), read_removed(txn), _make_table(fresh)
        merged = plan_small_merge(before, table.rows)
        if merged:
            table = removed.drop(merge_tables([*(self._open_table(record) for record in merged), table]))
        new = [self._store_table(next_sequence(txn), table)]
        replace_tables(txn, merged, new)
        if merged:
            note_merge(txn, before, merged, new, removed)
        else:
            set_first(txn, new[0], fresh[0][0])
        return _Replaced(before, new)

    def _merge(self, max_rows: int | None) -> int:
        """Merge as `merge`; the caller holds its lock. Returns the rows read."""
        records = self._catalog.view(_read_records)
        merged = plan_merge(records.tables, max_rows)
        if max_rows is None:
            merged = self._add_wasteful(records, merged)
        if not merged:
            return 0
        path = self._directory / f"{os.urandom(8).hex()}{NEW_SUFFIX}"
        try:
            tables = [self._open_table(record) for record in merged]
            rows = write_merged(path, tables, records.removed)
            if self._update(lambda txn: self._exchange(txn, merged, path, rows, records.removed)):
                self.refresh()
        finally:
            path.unlink(missing_ok=True)
        return sum(table.rows for table in tables)

    def _add_wasteful(self, records: _Records, merged: list[TableRecord]) -> list[TableRecord]:
        """Return the tables to merge, if more than a quarter of an older one is of removed packs from that one on."""
        large = select_large(records.tables)
        for index, record in enumerate(large[: len(large) - len(merged)] if len(records.removed.numbers) else []):
            table = self._open_table(record)
            if table.rows - records.removed.count_kept(table) > _MAX_REMOVED_PART * table.rows:
                return large[index:]
        return merged

    def _exchange(
        self, txn: WriteTxn, merged: Sequence[TableRecord], path: Path, rows: int, dropped: RemovedPacks
    ) -> _Replaced | None:
        """Replace `merged` by the table of `rows` rows in the file `path`; None, with nothing done, if one is gone.

        The table takes the place, and so the name, of the newest that it replaces. Should this update not last, the
        catalog says that the file has fewer rows than it has: those of older tables, found twice.
        """
        before = list_tables(txn)
        if any(record not in before for record in merged):
            return None
        next_sequence(txn)
        name = name_table(merged[-1].sequence)
        new = [TableRecord(merged[-1].sequence, rows, name, b"")] if rows else []
        if path.exists():  # the update may run twice
            path.rename(self._directory / name)
            sync_path(self._directory)
        replace_tables(txn, merged, new)
        note_merge(txn, before, merged, new, dropped)
        return _Replaced(before, new)

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

    def _load(self) -> _Loaded:
        while self._loaded is None:
            with self._lock:
                self._reload()
        return self._loaded

    def _reload(self) -> None:
        rebuilt = False
        while True:
            records = self._catalog.view(_read_records)
            try:
                tables = [self._open_table(record) for record in records.tables]
            except (FileNotFoundError, MalformedRecordError):
                # Merged away meanwhile, and found under its new name in the next round; or lost, and rebuilt once.
                if self._catalog.read_generation() == records.generation:
                    if rebuilt:
                        raise
                    self._update(self._rebuild)
                    rebuilt = True
            else:
                self._loaded = _Loaded(records, tables)
                return


def _read_records(txn: ReadTxn) -> _Records:
    return _Records(read_generation(txn), list_tables(txn), read_removed(txn))


def _drop_packs(txn: WriteTxn, numbers: Sequence[int]) -> None:
    for number in numbers:
        remove_pack(txn, number)
    add_removed(txn, numbers)
    next_sequence(txn)


def _make_table(packs: Sequence[tuple[int, Manifest]]) -> LocationTable:
    """Return the table of the chunks of packs, by number."""
    prefixes = np.concatenate([compute_prefixes(manifest.digests) for _, manifest in packs])
    return sort_table(prefixes, np.concatenate([pack_locations(number, manifest.rows) for number, manifest in packs]))


def _is_sorted(table: LocationTable) -> bool:
    """Return whether the prefixes ascend; holds only a part of the table in memory."""
    last = np.uint64(0)
    for span in iter_spans(table.rows):
        prefixes = table.prefixes[span]
        if prefixes[0] < last or (prefixes[1:] < prefixes[:-1]).any():
            return False
        last = prefixes[-1]
        table.release()
    return True
