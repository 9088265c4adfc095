"""Reading samples in this process: batches at random positions, and one sample by its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from materials import Materials
from row import SECONDS, Row, compare_rates
from stockroom import Column, StockRoom

BATCH = 256


def batches_of_small(materials: Materials) -> Iterator[Row]:
    """Random batches of 256 from 50,000 x (3,32,32) uint8, beside `memmap[positions]`."""
    yield _compare_batches(materials, materials.small_map, materials.small_repository, rounds=400, at_least_ratio=0.6)


def batches_of_large(materials: Materials) -> Iterator[Row]:
    """Random batches of 256 from 2,000 x (3,224,224) uint8, beside `memmap[positions]`."""
    mapped, repository = materials.large_pair
    yield _compare_batches(materials, mapped, repository, rounds=40, at_least_ratio=0.8)


def one_sample(materials: Materials) -> Iterator[Row]:
    """One 3 KiB sample by key, beside `memmap[i].copy()`."""
    mapped = materials.small_map
    with StockRoom(materials.small_repository) as stock:
        column = stock.data["image"]
        _warm(mapped, column)
        keys = materials.random.integers(0, len(mapped), 5_000).tolist()
        pair = materials.stopwatch.compare(
            lambda number: mapped[keys[number]].copy(), lambda number: column[keys[number]], rounds=len(keys)
        )
        assert (column[keys[0]] == mapped[keys[0]]).all()
    work = "one 3 KiB sample by key"
    yield Row(work, SECONDS, pair.product.median_s, pair.limit.median_s, at_most=8e-6, rounds=len(keys))


def _compare_batches(
    materials: Materials, mapped: NDArray[np.uint8], repository: Path, *, rounds: int, at_least_ratio: float
) -> Row:
    with StockRoom(repository) as stock:
        column = stock.data["image"]
        _warm(mapped, column)
        batches = materials.random.integers(0, len(mapped), (rounds, BATCH))
        pair = materials.stopwatch.compare(
            lambda number: mapped[batches[number]], lambda number: column.take(batches[number]), rounds=rounds
        )
        assert (column.take(batches[0]) == mapped[batches[0]]).all()
    work = f"random batches of {BATCH} from {len(mapped):,} x {mapped.shape[1:]} uint8"
    return compare_rates(work, pair, at_least_ratio=at_least_ratio)


def _warm(mapped: NDArray[np.uint8], column: Column) -> None:
    """Have both read every sample once: the file and the packs are mapped, every leaf of the tree is resolved."""
    for start in range(0, len(mapped), BATCH):
        positions = np.arange(start, min(start + BATCH, len(mapped)))
        assert (mapped[positions] == column.take(positions)).all()
