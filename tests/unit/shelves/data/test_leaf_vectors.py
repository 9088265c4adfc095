"""What a reader locates: at first only what it is asked for, and large columns once for all processes."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.shelves.data import sample_reader
from stockroom.store.index import shared_vectors
from stockroom.store.tensor_store import TensorStore
from stockroom.trees import Tree

PACKS, ROWS = 40, 30
SAMPLES = np.random.default_rng(0).integers(0, 256, (PACKS * ROWS, 64), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose column lies in many packs, in a random order."""
    path = tmp_path_factory.mktemp("made") / "repository"
    order = np.random.default_rng(1).permutation(len(SAMPLES))
    with StockRoom.init(path, name="a", email="a@b.c") as stock:
        for positions in np.split(order, PACKS):
            with stock.enable_write("more"):
                stock.data["parts"] = SAMPLES[positions]
        with stock.enable_write("all"):
            stock.data["x"] = SAMPLES
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of that repository."""
    return Path(shutil.copytree(made, tmp_path / "repository"))


@pytest.fixture
def located(monkeypatch) -> list[int]:
    """The number of chunks in each call of `TensorStore.locate`."""
    numbers: list[int] = []
    locate = TensorStore.locate

    def watch(self, digests, row_nbytes=None):
        numbers.append(len(digests))
        return locate(self, digests, row_nbytes)

    monkeypatch.setattr(TensorStore, "locate", watch)
    return numbers


def test_the_first_batch_locates_its_own_samples_alone(path, located):
    with StockRoom(path) as stock:
        column = stock.data["x"]
        positions = np.array([5, 900, 5, 17])
        assert np.array_equal(column.take(positions), SAMPLES[positions])
        assert sum(located) == 4
        assert np.array_equal(column.take(positions[::-1]), SAMPLES[positions[::-1]])
        assert sum(located) == 4


def test_reads_in_order_locate_each_sample_once(path, located):
    with StockRoom(path) as stock:
        assert np.array_equal(list(stock.data["x"].values()), SAMPLES)
    assert sum(located) <= 1.2 * len(SAMPLES)


def test_batches_soon_locate_whole_leaf_nodes_and_make_a_plan(path, located):
    with StockRoom(path) as stock:
        column = stock.data["x"]
        order = np.random.default_rng(2).permutation(len(SAMPLES))
        for start in range(0, len(order), 8):
            positions = order[start : start + 8]
            assert np.array_equal(column.take(positions), SAMPLES[positions])
        assert sum(located) <= 1.2 * len(SAMPLES)
        assert len(located) <= 20
        for position in order[:50].tolist():
            assert np.array_equal(column[position], SAMPLES[position])


@pytest.fixture
def shares(monkeypatch) -> None:
    """Share the vectors of small columns, too."""
    if not shared_vectors._BOOT_ID.exists():
        pytest.skip("the system does not name its starts, so nothing is shared")
    monkeypatch.setattr(sample_reader, "_MAX_PRIVATE", 100)


def test_what_one_reader_located_no_other_locates(path, shares, located):
    everything = np.arange(len(SAMPLES))
    with StockRoom(path) as first, StockRoom(path) as second:
        assert np.array_equal(first.data["x"].take(everything), SAMPLES)
        assert sum(located) == len(SAMPLES)
        column = second.data["x"]
        assert np.array_equal(column.take(everything), SAMPLES)
        assert [column[position][0] for position in range(20)] == SAMPLES[:20, 0].tolist()
    assert sum(located) == len(SAMPLES)
    assert len([*(path / ".stockroom" / "vectors").iterdir()]) == 1


def test_values_that_one_reader_read_no_other_reads(path, shares, monkeypatch):
    labels = np.random.default_rng(3).integers(0, 1000, 5000)
    with StockRoom(path) as stock, stock.enable_write("labels"):
        stock.data["label"] = labels
    with StockRoom(path) as first, StockRoom(path) as second:
        assert np.array_equal(first.data["label"].take(np.arange(5000)), labels)
        monkeypatch.setattr(Tree, "read_leaf", None)
        column = second.data["label"]
        assert column.take(np.array([7, 4000])).tolist() == labels[[7, 4000]].tolist()
        assert np.array_equal(column.take(np.arange(5000)), labels)


def test_locations_that_became_stale_are_replaced_for_all(path, shares, located):
    everything = np.arange(len(SAMPLES))
    with StockRoom(path) as reader:
        column = reader.data["x"]
        assert np.array_equal(column.take(everything), SAMPLES)
        with StockRoom(path) as stock:
            with stock.enable_write("more"):
                stock.data["y"] = SAMPLES[:9] ^ 255
            del located[:]
            assert np.array_equal(stock.data["x"].take(everything), SAMPLES)
            assert sum(located) == 0
            for _ in range(2):
                stock.gc(grace=timedelta(0), repack=True)
        del located[:]
        assert np.array_equal(column.take(everything), SAMPLES)  # from the packs that it has open
        for _ in range(2):
            with StockRoom(path) as later:
                assert np.array_equal(later.data["x"].take(everything), SAMPLES)
        assert sum(located) == len(SAMPLES)
    assert len([*(path / ".stockroom" / "vectors").iterdir()]) == 1


@pytest.mark.parametrize("lost", [("catalog", "index"), ("vectors",)])
def test_a_lost_catalog_or_vector_gives_no_wrong_sample(path, shares, lost):
    everything = np.arange(len(SAMPLES))
    with StockRoom(path) as stock:
        assert np.array_equal(stock.data["x"].take(everything), SAMPLES)
    for name in lost:
        shutil.rmtree(path / ".stockroom" / name)
    with StockRoom(path) as stock:
        assert np.array_equal(stock.data["x"].take(everything), SAMPLES)
        assert stock.verify().ok


def test_without_room_each_reader_keeps_a_vector_of_its_own(path, shares, monkeypatch):
    monkeypatch.setattr(shared_vectors, "_MAX_NBYTES", 100)
    with StockRoom(path) as stock:
        assert np.array_equal(stock.data["x"].take(np.arange(len(SAMPLES))), SAMPLES)
    assert [*(path / ".stockroom" / "vectors").iterdir()] == []
