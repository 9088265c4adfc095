"""Merges location tables into a new file, in blocks: memory does not grow with the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stockroom.files import open_own_file, sync_data
from stockroom.store.index.location_table import LocationTable, encode_header, merge_tables
from stockroom.store.index.removed_packs import RemovedPacks

_BLOCK_ROWS = 1 << 17
"""Blocks that stay in a processor's cache merge several times faster than larger ones."""


def write_merged(path: Path, tables: Sequence[LocationTable], removed: RemovedPacks) -> int:
    """Write the merged `tables`, oldest first, without rows of `removed` packs, and sync the file.

    Returns the number of rows; without any, there is no file.
    """
    rows = sum(removed.count_kept(table) for table in tables)
    if rows:
        with open_own_file(path) as file:
            _write_blocks(file, rows, iter_merged(tables, removed))
            file.flush()
            sync_data(file.fileno())
    return rows


def iter_merged(
    tables: Sequence[LocationTable], removed: RemovedPacks, *, block_rows: int = _BLOCK_ROWS
) -> Iterator[LocationTable]:
    """Yield the merged `tables`, oldest first, in blocks of about `block_rows` rows, without `removed` packs."""
    starts = [0] * len(tables)
    while any(start < table.rows for start, table in zip(starts, tables, strict=True)):
        stops = _choose_stops(tables, starts, block_rows)
        parts = [
            LocationTable(table.prefixes[start:stop], table.locations[start:stop])
            for table, start, stop in zip(tables, starts, stops, strict=True)
            if start < stop
        ]
        yield removed.drop(merge_tables(parts))
        for table in tables:
            table.release()
        starts = stops


def _choose_stops(tables: Sequence[LocationTable], starts: Sequence[int], block_rows: int) -> list[int]:
    """Return the end of the next block in each table: all of its rows up to one prefix.

    Each table is asked for its share of the block, and the least prefix at the end of a share is the block's last.
    """
    left = [table.rows - start for table, start in zip(tables, starts, strict=True)]
    total = sum(left)
    if total <= block_rows:
        return [table.rows for table in tables]
    shares = [start + max(1, rows * block_rows // total) for start, rows in zip(starts, left, strict=True)]
    last, shortest = min(
        (int(table.prefixes[share - 1]), index)
        for index, (table, share) in enumerate(zip(tables, shares, strict=True))
        if left[index]
    )
    stops = [
        start + int(np.searchsorted(table.prefixes[start:], np.uint64(last), side="right"))
        for table, start in zip(tables, starts, strict=True)
    ]
    stops[shortest] = max(stops[shortest], shares[shortest])  # a damaged table that is not sorted ends all the same
    return stops


def _write_blocks(file: BinaryIO, rows: int, blocks: Iterator[LocationTable]) -> None:
    header = encode_header(rows)
    file.write(header)
    done = 0
    for block in blocks:
        for start, column in ((len(header), block.prefixes), (len(header) + 8 * rows, block.locations)):
            file.seek(start + 8 * done)
            file.write(column.astype("<u8", copy=False).data)
        done += block.rows
    assert done == rows
