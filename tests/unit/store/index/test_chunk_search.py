"""Chunks that several packs hold: one that is lost or damaged does not hide the others."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stockroom.errors import CorruptionError
from stockroom.store.chunk_run import Stream
from stockroom.store.index.chunk_search import iter_by_pack
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.pack.presence import PresenceMap
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

ROWS = np.arange(40, dtype=np.uint8).reshape(10, 4).repeat(300, axis=1)


def list_packs(store: TensorStore) -> list[Path]:
    return [pack.directory for pack in store.iter_packs()]


def read(store: TensorStore, digests: np.ndarray) -> np.ndarray:
    """Read as a process that has just started."""
    with closing(TensorStore(store.packs_directory.parent)) as fresh:
        return fresh.gather(fresh.locate(digests, ROWS.shape[1]), ROWS.shape[1])


@pytest.fixture
def two_packs(store: TensorStore) -> np.ndarray:
    """The digests of rows that an older and a newer pack hold: their writers did not see each other's."""
    writers = [TensorWriter(store), TensorWriter(store)]
    digests = [
        writer.put_rows(ROWS, Stream("uint8", (ROWS.shape[1],), codec))
        for writer, codec in zip(writers, ("raw", "lz4"), strict=True)
    ]
    for writer in writers:
        writer.flush()
        writer.close()
    assert len(list_packs(store)) == 2
    return digests[0]


def test_rows_of_a_lost_pack_come_from_another(store, two_packs):
    for path in list_packs(store):
        path.rename(path.with_suffix(".away"))
        assert np.array_equal(read(store, two_packs), ROWS)
        path.with_suffix(".away").rename(path)


def test_rows_that_no_other_pack_holds_name_the_damage(store, two_packs):
    for path in list_packs(store):
        shutil.rmtree(path)

    with pytest.raises(CorruptionError, match="stock fsck"):
        read(store, two_packs)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_every_location_is_in_the_group_of_its_pack_in_the_order_given(count: int) -> None:
    rng = np.random.default_rng(count)
    numbers, rows = rng.integers(0, 40, count), rng.integers(0, 1 << 32, count)
    locations = numbers.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    groups = list(iter_by_pack(locations))
    assert [number for number, _, _ in groups] == sorted(set(numbers.tolist()))
    for number, some, where in groups:
        assert where.tolist() == np.flatnonzero(numbers == number).tolist()
        assert (some == rows[where]).all()


def test_a_whole_pack_is_preferred_to_a_newer_partial_one(store, tmp_path):
    with closing(TensorWriter(store)) as writer:
        digests = writer.put_rows(ROWS[:5].copy(), Stream("uint8", (ROWS.shape[1],), "raw"))
        writer.flush()
    (whole,) = store.catalog.read_packs()
    with closing(TensorStore(tmp_path / "other")) as other, closing(TensorWriter(other)) as writer:
        writer.put_rows(ROWS, Stream("uint8", (ROWS.shape[1],), "raw"))
        writer.flush()
        (folder,) = list_packs(other)
    target = store.packs_directory / folder.relative_to(tmp_path / "other" / "packs")
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    PresenceMap.create(target, len(ROWS))
    assert store.recover() == 1
    assert set((store.locate(digests, ROWS.shape[1]) >> ROW_BITS).tolist()) == {whole}
    assert (read(store, digests) == ROWS[:5]).all()
