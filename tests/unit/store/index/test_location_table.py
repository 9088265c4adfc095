"""Where chunks lie: tiers of tables, prefixes shared by several digests, tables lost and made anew."""

from __future__ import annotations

import itertools
import math
import shutil

import numpy as np
import pytest

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, MalformedRecordError
from stockroom.store.codecs import Codec
from stockroom.store.index.location_table import (
    LocationTable,
    compute_prefixes,
    decode_table,
    merge_tables,
    pack_locations,
    sort_table,
)
from stockroom.store.pack.layout import PackLayout, locate_pack
from stockroom.store.pack.manifest import Manifest
from stockroom.store.tensor_store import TensorStore

BIG = 3000
"""More rows than a table that is kept inside the catalog."""


def _make_rows(count: int, seed: int, nbytes: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, nbytes)).astype(np.uint8)


def test_300_flushes_of_one_row_leave_few_tables_and_every_row_findable(store, put):
    rows = _make_rows(300, 0)
    digests = np.concatenate([put(rows[i : i + 1]) for i in range(300)])
    _, tables = store.catalog.read_tables()
    assert len(tables) <= math.log2(300) + 1
    assert sum(table.rows for table in tables) == 300
    for older, newer in itertools.pairwise(tables):
        assert older.rows >= 2 * newer.rows
    assert (store.gather(store.locate(digests, 40), 40) == rows).all()
    assert not store.contains(np.zeros((3, 32), np.uint8)).any()


def _list_tables(store: TensorStore) -> set[str]:
    return {table.file for table in store.catalog.read_tables()[1] if table.file is not None}


def test_merged_tables_leave_no_files_behind_but_those_that_a_power_cut_may_need(store, put, tmp_path):
    digests = np.concatenate([put(_make_rows(BIG, seed)) for seed in range(7)])
    before = _list_tables(store)
    digests = np.concatenate([digests, put(_make_rows(BIG, 7))])
    kept = _list_tables(store)
    assert {path.name for path in (tmp_path / "store" / "index").iterdir()} == kept | before
    assert 0 < len(kept) <= 4
    assert store.contains(digests).all()


def test_a_pack_whose_manifest_cannot_be_read_now_is_found_again_after_the_tables_were_rebuilt(store, put):
    digests = put(_make_rows(5, 0))
    (digest,) = store.catalog.read_packs().values()
    manifest = locate_pack(store.packs_directory, digest) / "chunks"
    manifest.rename(manifest.with_name("away"))
    store.index.rebuild()
    assert not store.contains(digests).any()
    manifest.with_name("away").rename(manifest)
    assert (store.gather(store.locate(digests, 40), 40) == _make_rows(5, 0)).all()


def test_a_pack_lost_before_the_tables_were_rebuilt_is_stored_again(store, put):
    digests = put(_make_rows(5, 0))
    (digest,) = store.catalog.read_packs().values()
    shutil.rmtree(locate_pack(store.packs_directory, digest))
    store.index.rebuild()
    assert (put(_make_rows(5, 0)) == digests).all()
    assert (store.gather(store.locate(digests, 40), 40) == _make_rows(5, 0)).all()


def test_another_process_view_takes_in_new_packs_on_demand(store, put, tmp_path):
    other = TensorStore(tmp_path / "store")
    first = put(_make_rows(BIG, 0))
    assert other.contains(first).all()
    second = put(_make_rows(BIG, 1))
    assert not other.contains(second).any()
    assert (other.gather(other.locate(second, 40), 40) == _make_rows(BIG, 1)).all()
    other.close()


def _register(store: TensorStore, digests: np.ndarray, name: int) -> int:
    """Register a pack by its manifest alone; returns its number."""
    layout = PackLayout("uint8", (40,), Codec.RAW, len(digests))
    manifest = Manifest(layout, len(digests), 0, bytes([name] * 32), digests, None, None)
    store.index.register([(PackDigest(bytes([name] * 32)), manifest)])
    return max(store.catalog.read_packs())


def test_digests_that_share_a_prefix_are_told_apart_across_tables_and_rows(store):
    alike = np.zeros((6, 32), np.uint8)
    alike[:, 31] = np.arange(6)
    alike[:, :8] = 7
    numbers = [_register(store, alike[pair], name) for pair, name in (([0, 1], 1), ([2, 3], 2), ([4], 3))]
    expected = [(numbers[0], 0), (numbers[0], 1), (numbers[1], 0), (numbers[1], 1), (numbers[2], 0)]
    candidates: dict[int, set[tuple[int, int]]] = {position: set() for position in range(6)}
    for positions, locations in store.index.iter_candidates(alike):
        for position, location in zip(positions.tolist(), locations.tolist(), strict=True):
            candidates[position].add((location >> 32, location & 0xFFFFFFFF))
    assert all(found == set(expected) for found in candidates.values())


def test_of_digests_that_share_a_prefix_the_packs_themselves_decide(store, put):
    rows = _make_rows(5, 0)
    digests = put(rows)
    number = max(store.catalog.read_packs())
    decoy = digests.copy()
    decoy[:, 31] ^= 1
    impostor = _register(store, decoy, 9)  # newer, so that it is asked first: a pack whose files are gone
    assert (store.locate(digests) >> np.uint64(32) == number).all()
    with pytest.raises(CorruptionError, match="pack is missing"):
        store.locate(decoy)
    store.index.unregister([impostor])
    assert not store.contains(decoy).any()


def test_the_newest_copy_of_a_chunk_answers(store):
    tables = [
        sort_table(np.array([5, 3, 5], np.uint64), np.array([10, 11, 12], np.uint64)),
        sort_table(np.array([5, 4], np.uint64), np.array([20, 21], np.uint64)),
    ]
    merged = merge_tables(tables)
    assert merged.prefixes.tolist() == [3, 4, 5, 5, 5]
    assert merged.locations.tolist() == [11, 21, 20, 10, 12]
    assert merge_tables([]).rows == 0


def test_a_table_finds_the_first_row_of_a_prefix_and_says_when_there_is_none():
    table = LocationTable(np.array([3, 5, 5, 2**64 - 1], np.uint64), np.arange(4, dtype=np.uint64))
    wanted = np.array([0, 3, 4, 5, 6, 2**64 - 1], np.uint64)
    assert table.find(wanted).tolist() == [4, 0, 4, 1, 4, 3]
    assert LocationTable(np.empty(0, np.uint64), np.empty(0, np.uint64)).find(wanted).tolist() == [0] * 6
    again = decode_table(table.encode(), where="here")
    assert again.encode() == table.encode()


def test_prefixes_sort_as_digests_do():
    digests = _make_rows(1000, 1, 32)
    order = np.argsort(compute_prefixes(digests), kind="stable")
    assert [row.tobytes() for row in digests[order]] == sorted(row.tobytes() for row in digests)
    assert pack_locations(3, 2).tolist() == [3 << 32, 3 << 32 | 1]


def test_a_cut_table_is_refused_by_name():
    encoded = LocationTable(np.arange(3, dtype=np.uint64), np.arange(3, dtype=np.uint64)).encode()
    for broken in (b"", encoded[:23], encoded[:-1], b"X" + encoded[1:], encoded[:8] + b"\2" + encoded[9:]):
        with pytest.raises(MalformedRecordError, match=r"7\.table"):
            decode_table(broken, where="7.table")


def test_unregistered_packs_are_found_no_more_and_their_numbers_not_used_again(store, put):
    first, second = put(_make_rows(BIG, 0)), put(_make_rows(BIG, 1))
    numbers = sorted(store.catalog.read_packs())
    store.index.unregister(numbers[:1])
    assert not store.contains(first).any()
    assert store.contains(second).all()
    store.index.unregister(numbers[1:])
    assert not store.contains(second).any()
    third = put(_make_rows(BIG, 2))
    assert min(store.catalog.read_packs()) > max(numbers)
    assert store.contains(third).all()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbled"])
def test_a_lost_or_damaged_table_is_made_anew_from_the_packs(store, put, tmp_path, damage):
    rows = _make_rows(BIG, 0)
    digests = put(rows)
    store.close()
    (table,) = (tmp_path / "store" / "index").iterdir()
    if damage == "deleted":
        table.unlink()
    else:
        table.write_bytes(b"" if damage == "emptied" else b"X" * 100)
    again = TensorStore(tmp_path / "store")
    assert (again.gather(again.locate(digests, 40), 40) == rows).all()
    again.close()


def test_a_writer_gets_on_over_a_lost_table(store, put, tmp_path):
    first = put(_make_rows(BIG, 0))
    for table in (tmp_path / "store" / "index").iterdir():
        table.unlink()
    second = put(_make_rows(BIG + 1, 1))  # merges the table that is lost
    assert store.contains(first).all()
    assert store.contains(second).all()
