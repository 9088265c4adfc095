"""Packs are open only as long as file handles allow, and what they gave stays valid when they are closed."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from stockroom.errors import CorruptionError
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import StalePackError
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
    most = 0
    for _ in range(5):
        order = rng.integers(0, len(content), 100)
        assert (narrow.gather(locations[order], NBYTES) == content[order]).all()
        assert [bytes(row) for row in narrow.read_many(locations[order[:20]])] == [
            bytes(r) for r in content[order[:20]]
        ]
        assert bytes(narrow.read(int(locations[order[0]]))) == bytes(content[order[0]])
        assert len(narrow.cache.opened.packs) <= 4
        most = max(most, _count_handles())
    assert most - before <= 4 * 2


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
