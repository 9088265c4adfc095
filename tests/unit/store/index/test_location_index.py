"""The index at work: what transactions write, what merges do beside them, and the packs that left."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stockroom.digest import PackDigest
from stockroom.locks import FileLock
from stockroom.store.codecs import Codec
from stockroom.store.index import location_index, merge_plan
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.index.merge_plan import SMALL_ROWS
from stockroom.store.index.removed_packs import read_removed
from stockroom.store.pack.layout import PackLayout
from stockroom.store.pack.manifest import Manifest
from stockroom.store.tensor_store import TensorStore

LARGE = SMALL_ROWS + 1


def make_digests(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 32), np.uint8)


def register(store: TensorStore, digests: np.ndarray) -> int:
    """Register a pack by its manifest alone; returns its number."""
    manifest = Manifest(PackLayout("uint8", (40,), Codec.RAW, 1), len(digests), 0, bytes(32), digests, None, None)
    store.index.register([(PackDigest(digests[0].tobytes()), manifest)])
    return max(store.catalog.read_packs())


def find(store: TensorStore, digests: np.ndarray) -> set[int]:
    """Return the packs that the index names for `digests`, each of which must have a candidate."""
    found = [*store.index.iter_candidates(digests)]
    assert set(np.concatenate([positions for positions, _ in found]).tolist()) == set(range(len(digests)))
    return set((np.concatenate([locations for _, locations in found]) >> ROW_BITS).tolist())


def finds_nothing(store: TensorStore, digests: np.ndarray) -> bool:
    return not any(len(positions) for positions, _ in store.index.iter_candidates(digests))


def list_tables(store: TensorStore) -> dict[int, int]:
    """Return the rows of each table by its sequence."""
    return {table.sequence: table.rows for table in store.catalog.read_tables()[1]}


def list_removed(store: TensorStore) -> list[int]:
    return store.catalog.view(read_removed).numbers.tolist()


def count_written(before: dict[int, int], after: dict[int, int]) -> int:
    """Return the rows of the tables that were not there before."""
    return sum(rows for sequence, rows in after.items() if before.get(sequence) != rows)


def test_each_row_is_rewritten_a_logarithmic_number_of_times(store, monkeypatch):
    monkeypatch.setattr(merge_plan, "SMALL_ROWS", 64)
    monkeypatch.setattr(location_index, "FREE_ROWS", 256)
    packs, rows = 400, 20
    written = 0
    for seed in range(packs):
        for step in (lambda seed=seed: register(store, make_digests(rows, seed)), store.index.merge_due):
            before = list_tables(store)
            step()
            written += count_written(before, list_tables(store))
    assert written <= packs * rows * (math.log2(packs) + 2)
    assert len(list_tables(store)) <= math.log2(packs) + 2


def test_a_transaction_never_merges_large_tables_and_a_pack_of_one_row_pays_for_little(store):
    for seed in range(3):
        register(store, make_digests(LARGE, seed))
    large = list_tables(store)
    for seed in range(3, 40):
        before = list_tables(store)
        register(store, make_digests(1, seed))
        after = list_tables(store)
        assert count_written(before, after) <= 64
        assert large.items() <= after.items()


def test_who_adds_one_row_merges_no_more_than_is_free(store, monkeypatch):
    monkeypatch.setattr(location_index, "FREE_ROWS", 2 * LARGE)
    for seed in range(4):
        register(store, make_digests(LARGE, seed))
    with closing(TensorStore(store.packs_directory.parent)) as other:
        register(other, make_digests(1, 9))
        other.index.merge_due()
        assert sorted(list_tables(other).values()) == [1, LARGE, LARGE, 2 * LARGE]
    store.index.merge_due()
    assert sorted(list_tables(store).values()) == [1, 4 * LARGE]
    for seed in range(4):
        assert find(store, make_digests(LARGE, seed)) == {seed}


def test_unregistering_writes_no_table_and_a_merge_drops_the_rows(store):
    many = [make_digests(LARGE, seed) for seed in range(3)]
    numbers = [register(store, digests) for digests in many]
    few = make_digests(3, 7)
    register(store, few)
    tables, files = list_tables(store), set(Path(store.packs_directory.parent, "index").iterdir())
    store.index.unregister(numbers[:2])
    assert list_tables(store) == tables
    assert set(Path(store.packs_directory.parent, "index").iterdir()) == files
    assert finds_nothing(store, many[0])
    assert find(store, many[2]) == {numbers[2]}
    assert list_removed(store) == numbers[:2]

    assert store.index.merge() == 3 * LARGE
    assert sorted(list_tables(store).values()) == [3, LARGE]
    assert list_removed(store) == []
    assert finds_nothing(store, np.concatenate(many[:2]))
    assert find(store, np.concatenate([many[2], few])) == {numbers[2], numbers[2] + 1}


def test_removed_packs_are_remembered_as_long_as_a_table_holds_them(store):
    many = [make_digests(LARGE, seed) for seed in range(4)]
    numbers = [register(store, digests) for digests in many[:2]]
    store.index.merge()
    numbers += [register(store, digests) for digests in many[2:]]
    store.index.unregister(numbers[1:3])
    store.index.merge(max_rows=2 * LARGE)  # leaves the older table
    assert sorted(list_tables(store).values()) == [LARGE, 2 * LARGE]
    assert list_removed(store) == numbers[1:2]
    with closing(TensorStore(store.packs_directory.parent)) as other:
        for each in (store, other):
            assert finds_nothing(each, np.concatenate(many[1:3]))
            assert find(each, np.concatenate([many[0], many[3]])) == {numbers[0], numbers[3]}


def test_a_merge_of_removed_packs_alone_leaves_no_table(store):
    numbers = [register(store, make_digests(LARGE, seed)) for seed in range(2)]
    store.index.unregister(numbers)
    store.index.merge()
    assert list_tables(store) == {}
    assert list_removed(store) == []


def test_a_table_that_is_mostly_of_removed_packs_is_rewritten_by_gc_alone(store):
    numbers = [register(store, make_digests(LARGE, seed)) for seed in range(4)]
    store.index.merge()
    kept = register(store, make_digests(10, 8))
    store.index.unregister(numbers[:1])
    assert store.index.merge() == 0  # a quarter
    store.index.unregister(numbers[1:2])
    store.index.merge_due()
    assert sorted(list_tables(store).values()) == [10, 4 * LARGE]
    store.index.merge()
    assert sorted(list_tables(store).values()) == [10, 2 * LARGE]
    assert list_removed(store) == []
    assert find(store, np.concatenate([make_digests(10, 8), make_digests(LARGE, 3)])) == {kept, numbers[3]}


def test_another_process_merges_or_nobody_waits(store):
    for seed in range(2):
        register(store, make_digests(LARGE, seed))
    directory = store.packs_directory.parent / "index"
    with FileLock(directory / "merge.lock") as lock:
        assert lock.try_take()
        assert store.index.merge() == 0
        register(store, make_digests(LARGE, 2))
    (directory / "0123.new").write_bytes(b"of a merge that was killed")
    assert store.index.merge() == 3 * LARGE
    assert not [*directory.glob("*.new")]


def test_packs_that_come_and_go_while_tables_are_merged_are_not_undone(store, monkeypatch):
    many = [make_digests(LARGE, seed) for seed in range(2)]
    numbers = [register(store, digests) for digests in many]
    write_merged = location_index.write_merged
    late = make_digests(5, 9)

    def write_while_others_change(*arguments):
        with closing(TensorStore(store.packs_directory.parent)) as other:
            register(other, late)
            other.index.unregister(numbers[:1])
        return write_merged(*arguments)

    monkeypatch.setattr(location_index, "write_merged", write_while_others_change)
    assert store.index.merge() == 2 * LARGE
    assert sorted(list_tables(store).values()) == [5, 2 * LARGE]
    assert list_removed(store) == numbers[:1]
    assert finds_nothing(store, many[0])
    assert find(store, np.concatenate([many[1], late])) == {numbers[1], numbers[1] + 1}


def test_a_merge_whose_tables_were_rebuilt_meanwhile_changes_nothing(store, put, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (LARGE, 8), np.uint8)
    digests = np.concatenate([put(rows), put(rows ^ 1)])
    write_merged = location_index.write_merged

    def write_after_a_rebuild(*arguments):
        store.index.rebuild()
        return write_merged(*arguments)

    monkeypatch.setattr(location_index, "write_merged", write_after_a_rebuild)
    register(store, make_digests(LARGE, 1))
    store.index.merge()
    assert store.contains(digests).all()
    assert {path.suffix for path in (store.packs_directory.parent / "index").iterdir()} == {".table", ".lock"}


@pytest.mark.parametrize("damage", ["lost", "garbled"])
def test_a_merge_of_a_lost_or_damaged_table_changes_nothing_and_raises_nothing(store, damage):
    for seed in range(2):
        register(store, make_digests(LARGE, seed))
    tables = list_tables(store)
    table = min((store.packs_directory.parent / "index").glob("*.table"))
    table.unlink() if damage == "lost" else table.write_bytes(b"X" * 100)
    assert store.index.merge() == 0
    assert list_tables(store) == tables
    assert not [*table.parent.glob("*.new")]


def test_after_a_power_cut_that_undid_a_merge_everything_is_found(store, put, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (LARGE, 8), np.uint8)
    digests = np.concatenate([put(rows), put(rows ^ 1)])
    (tmp_path / "store" / "index").joinpath("merge.lock").unlink(missing_ok=True)
    store.index.rebuild()
    for seed in range(2):  # two tables again
        register(store, make_digests(LARGE, seed))
    store.close()
    shutil.copytree(tmp_path / "store" / "catalog", tmp_path / "before")
    with closing(TensorStore(tmp_path / "store")) as again:
        assert again.index.merge() > 0
    shutil.rmtree(tmp_path / "store" / "catalog")
    (tmp_path / "before").rename(tmp_path / "store" / "catalog")
    with closing(TensorStore(tmp_path / "store")) as again:
        assert again.contains(digests).all()
        assert [*again.index.iter_problems()] == []
        again.index.merge()
        assert find(again, make_digests(LARGE, 0)) == {2}
        assert again.contains(digests).all()


def merge_and_die(root: Path, stop_at: int) -> bool:
    """Merge in a process that ends at its call `stop_at` of those that change files; returns whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77
    calls = itertools.count(1)

    def watch(module: object, name: str) -> None:
        original = getattr(module, name)

        def watched(*arguments: object, **options: object) -> object:
            if next(calls) == stop_at:
                os._exit(77)
            return original(*arguments, **options)

        setattr(module, name, watched)

    for name in ("open", "fsync", "fdatasync", "rename", "unlink"):
        watch(os, name)
    for name in ("replace_tables", "note_merge", "sync_path"):
        watch(location_index, name)
    with closing(TensorStore(root)) as store:
        store.index.merge()
    os._exit(0)


def test_a_merge_killed_anywhere_loses_nothing_and_is_made_up_for(store):
    numbers = [register(store, make_digests(LARGE, seed)) for seed in range(3)]
    store.index.unregister(numbers[1:2])
    store.close()
    root = store.packs_directory.parent
    before = root.with_name("before")
    shutil.copytree(root, before)
    stop_at, is_killed = 0, True
    while is_killed:
        stop_at += 1
        shutil.rmtree(root)
        shutil.copytree(before, root)
        is_killed = merge_and_die(root, stop_at)
        with closing(TensorStore(root)) as again:
            for _ in range(2):
                assert find(again, np.concatenate([make_digests(LARGE, 0), make_digests(LARGE, 2)])) == {0, 2}
                assert finds_nothing(again, make_digests(LARGE, 1))
                again.index.merge()
            assert list(list_tables(again).values()) in ([2 * LARGE], [3 * LARGE])  # some rows twice
            assert list_removed(again) == []
        assert not [*(root / "index").glob("*.new")] or is_killed
    assert stop_at > 10
