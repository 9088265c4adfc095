"""Packs stay open within one limit for the process, and what they gave stays valid when they leave."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError
from stockroom.store.pack import pack_cache
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.map_budget import BUDGET, KeptManifests
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.private_read import StoredTensor, read_private
from stockroom.store.tensor_store import TensorStore

PACKS, ROWS, NBYTES = 30, 8, 64


def _count_handles() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def content() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (PACKS * ROWS, NBYTES)).astype(np.uint8)


@pytest.fixture
def digests(put, content) -> np.ndarray:
    codecs = ("raw", "zstd", "raw", "lz4", "raw")
    parts = [content[i * ROWS : (i + 1) * ROWS] for i in range(PACKS)]
    return np.concatenate([put(part, codec=codecs[i % 5]) for i, part in enumerate(parts)])


@pytest.fixture
def narrow(store: TensorStore, digests) -> TensorStore:
    """The store, with room for four open packs out of thirty."""
    store.cache.forget()
    store.cache.limit = 4
    return store


def test_thirty_packs_are_read_right_through_room_for_four(narrow, content, digests):
    before = _count_handles()
    locations = narrow.locate(digests, NBYTES)
    rng = np.random.default_rng(1)
    for _ in range(5):
        order = rng.integers(0, len(content), 100)
        assert (narrow.gather(locations[order], NBYTES) == content[order]).all()
        assert [bytes(row) for row in narrow.read_many(locations[order[:20]])] == [
            bytes(r) for r in content[order[:20]]
        ]
        assert bytes(narrow.read(int(locations[order[0]]))) == bytes(content[order[0]])
        assert len(narrow.cache.opened.packs) <= 4
        assert _count_handles() == before


def test_views_outlive_the_pack_they_came_from(narrow, content, digests):
    locations = narrow.locate(digests, NBYTES)
    views = [narrow.view(int(location)) for location in locations]
    narrow.cache.forget()
    assert (np.stack(views) == content).all()
    assert not any(view.flags.writeable for view in views)


def test_a_gather_gives_memory_of_the_callers_own(store, content, digests):
    locations = store.locate(digests, NBYTES)
    first = store.gather(locations, NBYTES)
    first[:] = 0
    data = store.read(int(locations[0]))
    data[:] = bytes(len(data))
    assert (store.gather(locations, NBYTES) == content).all()


def test_a_pack_number_that_is_gone_is_stale_not_corrupt(store, digests):
    number = min(store.catalog.read_packs())
    directory = locate_pack(store.packs_directory, store.catalog.read_packs()[number])
    other = TensorStore(store.packs_directory.parent)
    assert other.cache.get(number).rows == ROWS
    store.index.unregister([number])
    directory.rename(directory.with_name("gone"))
    other.cache.forget()
    with pytest.raises(StalePackError):
        other.cache.get(number)
    with pytest.raises(StalePackError):
        other.cache.get(10_000)
    other.close()


def test_a_closed_store_keeps_no_handles(tmp_path, put):
    TensorStore(tmp_path / "warm").close()
    before = _count_handles()
    for _ in range(3):
        opened = TensorStore(tmp_path / "other")
        digests = put(np.arange(512, dtype=np.uint8).reshape(8, 64), into=opened)
        opened.gather(opened.locate(digests, 64), 64)
        opened.close()
        del opened
    assert _count_handles() <= before


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("layout", ["uniform", "ragged"])
def test_a_careful_reader_gets_the_same_and_an_error_where_a_map_would_end_the_process(
    store, put, rows, only_pack, codec, layout
):
    given = rows if layout == "uniform" else [bytes(row[: 900 + n % 100]) for n, row in enumerate(rows)]
    digests = put(given, codec=codec)
    with store.cache.read_carefully():
        locations = store.locate(digests)
        stored = [StoredTensor(digest[None], np.array([len(row)])) for digest, row in zip(digests, given, strict=True)]
        for read in (store.read_many(locations), map(store.view, locations), read_private(store, stored)):
            assert all(bytes(found) == bytes(row) for found, row in zip(read, given, strict=True))
        if layout == "uniform":
            assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
            assert store.plan_gather(locations, 1000, among=np.unique(locations >> 32).astype(np.int64)) is None
        shard = next(only_pack().glob("c.*"))
        os.truncate(shard, 4096)
        for read in (lambda: store.read_many(locations), lambda: read_private(store, stored)):
            with pytest.raises(CorruptionError, match=rf"{shard.name}: ends at byte 4096"):
                read()
    with pytest.raises(CorruptionError, match="found 4096"):
        store.locate(digests)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[PackDigest]:
    """The digest of each pack that a cache opens, in order."""
    opened: list[PackDigest] = []

    def open_pack(directory: Path, digest: PackDigest, **how: bool) -> Pack:
        opened.append(digest)
        return Pack(directory, digest, **how)

    monkeypatch.setattr(pack_cache, "Pack", open_pack)
    return opened


@pytest.fixture
def raw_digests(put, content) -> np.ndarray:
    return np.concatenate([put(content[i * ROWS : (i + 1) * ROWS]) for i in range(PACKS)])


@pytest.fixture
def room_for_ten() -> Iterator[None]:
    limit = BUDGET.limit
    with BUDGET.lock:
        others = [(cache, cache.rank_packs()[0]) for cache in BUDGET._caches]
        for cache, numbers in others:  # of other tests, until they are collected
            cache.evict(numbers)
    BUDGET.limit = 10
    yield
    BUDGET.limit = limit


def test_each_pack_is_opened_once_to_find_and_gather_shuffled_batches(store, content, raw_digests, openings):
    store.cache.forget()
    order = np.random.default_rng(2).permutation(len(content))
    for some in np.array_split(order, 12):
        locations = store.locate(raw_digests[some], NBYTES)
        assert (store.gather(locations, NBYTES) == content[some]).all()
    assert len(openings) == len(set(openings)) == PACKS


def test_the_packs_used_last_stay_open_while_others_come_and_go(store, content, raw_digests, openings):
    locations = store.locate(raw_digests, NBYTES)
    store.cache.forget()
    store.cache.limit = 16
    openings.clear()
    often, seldom = np.arange(8 * ROWS), np.arange(8 * ROWS, PACKS * ROWS)
    for turn in range(3 * (PACKS - 8)):
        store.gather(locations[often], NBYTES)
        store.gather(locations[seldom[turn % (PACKS - 8) * ROWS][None]], NBYTES)
    assert len(openings) - len(set(openings)) >= PACKS, "the others had no room"
    packs = list(store.catalog.read_packs().values())
    assert [openings.count(digest) for digest in packs[:8]] == [1] * 8


def test_all_stores_of_a_process_share_one_limit(tmp_path, store, content, raw_digests, room_for_ten):
    stores = [store, TensorStore(tmp_path / "store"), TensorStore(tmp_path / "store")]
    for one in stores:
        locations = one.locate(raw_digests, NBYTES)
        assert (one.gather(locations[:80], NBYTES) == content[:80]).all()
        assert sum(each.cache.count_open() for each in stores) <= 10
    assert stores[2].cache.count_open() == 10
    for one in stores[1:]:
        one.close()


def test_a_plan_ends_when_a_pack_leaves_and_what_it_gave_stays(store, content, raw_digests, room_for_ten):
    locations = store.locate(raw_digests, NBYTES)
    packs = np.unique(locations >> np.uint64(32)).astype(np.int64)
    store.cache.open_packs(packs[:4].tolist())
    plan = store.plan_gather(locations[: 4 * ROWS], NBYTES, among=packs[:4])
    assert plan is not None
    assert store.plan_gather(locations, NBYTES, among=packs) is None, "not all packs are open"
    gathered = plan.gather(np.arange(-1, 20))
    assert (gathered == content[np.r_[4 * ROWS - 1, :20]]).all()
    with pytest.raises(IndexError):
        plan.gather(np.array([4 * ROWS]))
    for number in packs[4:10].tolist():
        plan.gather(np.array([0]))  # a plan in use keeps its packs, as far as others are older
        store.cache.get(number)
    assert plan.gather(np.array([0])) is not None
    store.gather(locations[10 * ROWS :], NBYTES)
    assert plan.gather(np.array([0])) is None
    store.cache.open_packs(packs[:4].tolist())
    again = store.plan_gather(locations[: 4 * ROWS], NBYTES, among=packs[:4])
    assert again is not None
    store.cache.forget()
    assert again.gather(np.array([0])) is None
    assert (gathered == content[np.r_[4 * ROWS - 1, :20]]).all()


def test_threads_and_a_forked_child_gather_right_while_packs_leave(narrow, content, raw_digests):
    locations = narrow.locate(raw_digests, NBYTES)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            some = rng.integers(0, len(content), rng.integers(1, 40))
            assert (narrow.gather(locations[some], NBYTES) == content[some]).all()
            assert bytes(narrow.view(int(locations[some[0]]))) == bytes(content[some[0]])

    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(work, range(3)):
            pass
        assert call_in_fork(lambda: work(9)) == 0


def test_when_the_system_refuses_more_maps_older_ones_make_room(tmp_path, put):
    rows = np.random.default_rng(0).integers(0, 256, (12, 4 << 20), dtype=np.uint8)
    writing = TensorStore(tmp_path / "large")
    digests = np.concatenate([put(row[None], into=writing) for row in rows])
    writing.close()

    def work() -> None:
        store = TensorStore(tmp_path / "large")
        locations = store.locate(digests[:1])
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (24 << 20)  # of 12 packs of 4 MiB some five
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        locations = store.locate(digests)
        for _ in range(2):
            for row, location in zip(rows, locations.tolist(), strict=True):
                assert bytes(store.view(location)[-9:]) == bytes(row[-9:])
        assert 0 < store.cache.count_open() < len(rows)

    assert call_in_fork(work) == 0


def test_a_lean_pack_maps_its_manifest_again_and_is_stale_if_it_is_gone(store, put, only_pack):
    digests = put([bytes([n % 251]) * (40 + n) for n in range(300)])
    directory = only_pack()
    pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)), lean=True)
    assert (pack.manifest.digests == digests).all()
    assert pack.manifest is pack.manifest
    pack.release_manifest()
    assert pack.read_row(299) == bytes([299 % 251]) * 339
    pack.release_manifest()
    directory.rename(directory.with_name("gone"))
    with pytest.raises(StalePackError):
        pack.read_row(299)
    directory.with_name("gone").rename(directory)
    assert pack.read_row(0) == bytes(40)


def test_a_search_finds_chunks_of_a_pack_that_moves_away_and_back_while_it_is_open(store, put, openings):
    rows = np.random.default_rng(6).integers(0, 256, (400, 40), dtype=np.uint8)  # a manifest too long to be kept
    digests = put(rows)
    (number,) = store.catalog.read_packs()
    directory = store.cache.get(number).directory
    aside = directory.with_name("aside")
    directory.rename(aside)
    assert store.cache.get(number).read_row(5) == rows[5].tobytes(), "an open pack needs no folder"
    with pytest.raises(CorruptionError, match="is missing"):
        store.locate(digests)
    aside.rename(directory)
    assert (store.gather(store.locate(digests, 40), 40) == rows).all()
    store.index.unregister([number])
    directory.rename(aside)
    assert not store.contains(digests).any()


def test_only_so_many_manifests_stay_mapped() -> None:
    class Lean:
        released = False

        def release_manifest(self) -> None:
            self.released = True

    kept = KeptManifests(max_count=3, max_nbytes=100)
    packs = [Lean() for _ in range(6)]
    for pack in packs[:4]:
        kept.add(pack, 10)
    assert [pack.released for pack in packs] == [True, False, False, False, False, False]
    kept.add(packs[4], 95)
    assert [pack.released for pack in packs] == [True, True, True, True, False, False]
    kept.add(packs[5], 200)
    assert not packs[5].released
