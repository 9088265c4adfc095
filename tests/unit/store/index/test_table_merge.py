"""Tables merged in blocks are the tables merged at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stockroom.store.index.location_table import LocationTable, merge_tables, pack_locations, read_table, sort_table
from stockroom.store.index.removed_packs import RemovedPacks
from stockroom.store.index.table_merge import iter_merged, write_merged

NONE_REMOVED = RemovedPacks(np.empty(0, np.int64))


def make_tables(counts: list[int], *, keys: int, seed: int) -> list[LocationTable]:
    """Return tables of these numbers of rows, a pack each, whose prefixes are among `keys` numbers."""
    random = np.random.default_rng(seed)
    prefixes = [random.integers(0, keys, count, np.uint64) for count in counts]
    return [sort_table(found, pack_locations(number, len(found))) for number, found in enumerate(prefixes)]


def join(blocks: list[LocationTable]) -> LocationTable:
    return LocationTable(
        np.concatenate([block.prefixes for block in blocks]), np.concatenate([block.locations for block in blocks])
    )


@pytest.mark.parametrize("counts", [[1], [1000, 1, 300, 0, 7], [50] * 20, [3, 4000]])
@pytest.mark.parametrize("keys", [2**64 - 1, 40, 1])
def test_blocks_joined_are_the_tables_merged_at_once_without_removed_packs(counts, keys):
    tables = make_tables(counts, keys=keys, seed=len(counts))
    for removed in (NONE_REMOVED, RemovedPacks(np.array([0, 3], np.int64))):
        blocks = [block for block in iter_merged(tables, removed, block_rows=64) if block.rows]
        expected = removed.drop(merge_tables(tables))
        if expected.rows:
            assert join(blocks).encode() == expected.encode()
        assert sum(map(removed.count_kept, tables)) == expected.rows
        for before, after in pairwise(blocks):
            assert before.prefixes[-1] < after.prefixes[0]


def test_blocks_are_bounded_however_large_the_tables_are():
    tables = make_tables([20_000, 3_000, 10], keys=2**64 - 1, seed=1)
    rows = [block.rows for block in iter_merged(tables, NONE_REMOVED, block_rows=500)]
    assert max(rows) <= 500 + len(tables)
    assert len(rows) < 3 * 23_010 / 500


def test_a_damaged_table_that_is_not_sorted_ends_all_the_same():
    damaged = LocationTable(np.arange(5000, 0, -1).astype(np.uint64), pack_locations(0, 5000))
    tables = [damaged, *make_tables([700], keys=6000, seed=2)]
    assert sum(block.rows for block in iter_merged(tables, NONE_REMOVED, block_rows=64)) == 5700


def test_the_file_is_a_table(tmp_path):
    tables = make_tables([3000, 500], keys=2**64 - 1, seed=3)
    assert write_merged(tmp_path / "a.table", tables, RemovedPacks(np.array([1], np.int64))) == 3000
    assert read_table(tmp_path / "a.table").encode() == tables[0].encode()
    assert write_merged(tmp_path / "b.table", tables, RemovedPacks(np.array([0, 1], np.int64))) == 0
    assert not (tmp_path / "b.table").exists()
