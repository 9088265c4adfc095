"""Writing samples: in bulk to a durable commit, one by one, and streamed with bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from materials import LARGE_SHAPE, SMALL_SHAPE, Materials, save_durably
from row import BYTES, RATE, Row, compare_rates
from stockroom import StockRoom
from timing import Times

Columns: TypeAlias = Mapping[str, NDArray[Any]]

ROUNDS = 5
MAX_IMPORT_NBYTES = 1 << 30
WHOLE_IMPORT_NBYTES = 20 << 30


def bulk_write_small(materials: Materials) -> Iterator[Row]:
    """50,000 x (3,32,32) uint8 and their labels into a fresh repository, beside `np.save` and fsync of both."""
    columns: Columns = {"image": materials.small, "label": materials.labels}
    work = f"bulk write of {len(materials.small):,} x {SMALL_SHAPE} + labels"
    yield _compare_bulk(materials, columns, work, at_least_ratio=0.3)


def bulk_write_large(materials: Materials) -> Iterator[Row]:
    """1 GB of (3,224,224) uint8 into a fresh repository, beside `np.save` and fsync."""
    samples = materials.make_samples(materials.sizes.bulk_large, LARGE_SHAPE)
    work = f"bulk write of {samples.nbytes / 1e9:.2g} GB of {LARGE_SHAPE}"
    yield _compare_bulk(materials, {"image": samples}, work, at_least_ratio=0.5)


def per_sample_writes(materials: Materials) -> Iterator[Row]:
    """`column[key] = sample`, 3 KiB each, in one write block: the assignments alone, and with the durable commit."""
    count = min(20_000, len(materials.small))
    samples = list(materials.small[:count])
    assigned, whole = _time_assignments(materials, samples)
    work = f"writes column[key] = sample, {samples[0].nbytes / 1024:g} KiB each"
    yield Row(f"{work}: the assignments", RATE, count / assigned.median_s, at_least=25_000, rounds=ROUNDS)
    yield Row(f"{work}: with the commit", RATE, count / whole.median_s, at_least=25_000, rounds=ROUNDS)


def import_memory(materials: Materials) -> Iterator[Row]:
    """Memory that a streamed import takes above its input: measured, and carried on at its growth to 20 GiB."""
    for shape in (SMALL_SHAPE, LARGE_SHAPE):
        nbytes = materials.sizes.streamed_nbytes
        half, whole = (_measure_import(materials.folder, shape, n) for n in (nbytes // 2, nbytes))
        growth = max(0.0, (whole - half) / (nbytes / 2))
        expected = whole + growth * max(0, WHOLE_IMPORT_NBYTES - nbytes)
        work = f"memory of a streamed import of {shape}"
        yield Row(f"{work}: {nbytes / 2**30:g} GiB", BYTES, whole, at_most=MAX_IMPORT_NBYTES)
        if nbytes < WHOLE_IMPORT_NBYTES:
            yield Row(f"{work}: 20 GiB, extrapolated", BYTES, expected, at_most=MAX_IMPORT_NBYTES)


class FreshRepository:
    """An empty repository, replaced by another on `renew`, once the old one is deleted and the disk is idle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fresh"
        self.stock = self._make()

    def renew(self, _: object = None) -> None:
        """Start anew."""
        self.close()
        self.stock = self._make()

    def close(self) -> None:
        """Delete the repository and whatever else was put in its folder."""
        self.stock.close()
        shutil.rmtree(self.folder)
        os.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _make(self) -> StockRoom:
        return StockRoom.init(self.folder, name="Bench", email="bench@example.org")


def _compare_bulk(materials: Materials, columns: Columns, work: str, *, at_least_ratio: float) -> Row:
    with FreshRepository(materials.folder) as fresh:

        def save(_: int) -> None:
            for name, values in columns.items():
                save_durably(fresh.folder / f"{name}.npy", values)

        def commit(_: int) -> None:
            with fresh.stock.enable_write("Add data") as stock:
                for name, values in columns.items():
                    stock.data[name] = values

        pair = materials.stopwatch.compare(save, commit, rounds=ROUNDS, after=fresh.renew)
        commit(0)
        _check(fresh.stock, columns)
    return compare_rates(work, pair, at_least_ratio=at_least_ratio)


def _time_assignments(materials: Materials, samples: list[NDArray[np.uint8]]) -> tuple[Times, Times]:
    """The assignments alone, and the whole write block with its commit."""
    assigned: list[float] = []
    with FreshRepository(materials.folder) as fresh:

        def write(_: int) -> None:
            with fresh.stock.enable_write("Add data") as stock:
                column = stock.data.create("image", dtype="uint8", shape=SMALL_SHAPE)
                assigned.append(materials.stopwatch.measure(lambda: _assign(column, samples)))

        whole = materials.stopwatch.repeat(write, rounds=ROUNDS, after=fresh.renew)
        write(0)
        _check(fresh.stock, {"image": np.stack(samples)})
    return Times(assigned[-1 - ROUNDS : -1]), whole


def _assign(column: Any, samples: list[NDArray[np.uint8]]) -> None:
    for key, sample in enumerate(samples):
        column[key] = sample


def _check(stock: StockRoom, columns: Columns) -> None:
    """That what was timed did write it: a few samples of each column, read back."""
    for name, values in columns.items():
        positions = np.linspace(0, len(values) - 1, 100).astype(np.int64)
        assert len(stock.data[name]) == len(values)
        assert (stock.data[name].take(positions) == values[positions]).all()


def _measure_import(folder: Path, shape: tuple[int, ...], nbytes: int) -> float:
    """Bytes of memory that a process of its own took at most, above what it had before the import."""
    script = Path(__file__).with_name("streamed_import.py")
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        command = [sys.executable, str(script), fresh, str(nbytes), *map(str, shape)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["above_input_nbytes"])
