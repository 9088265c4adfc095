"""What the benchmarks work on: arrays, the same arrays as plain files, and repositories that hold them.

Everything is made when it is first asked for, once per run, in one temporary folder. Samples are random bytes, so the
`auto` codec keeps them raw: neither side gains from compression.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom import StockRoom
from timing import Stopwatch

SMALL_SHAPE = (3, 32, 32)
LARGE_SHAPE = (3, 224, 224)
TINY_NBYTES = 40
"""Above 32 bytes a sample is not inline: the tree refers to a chunk by its digest, as it does for one of 3 KiB."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many samples; `histories` are those of the repositories whose commit costs must not depend on them."""

    small: int
    large: int
    bulk_large: int
    histories: tuple[int, ...]
    labels: int
    streamed_nbytes: int
    pushed: int
    cloned: int
    lazy_epoch: int
    model_rows: int
    logged: int
    runs: int
    session_s: int
    checked: int
    tiny_packs: int
    image_stride: int


FULL = Sizes(
    small=50_000,
    large=2_000,
    bulk_large=7_133,
    histories=(200_000, 2_000_000),
    labels=2_000_000,
    streamed_nbytes=2 << 30,
    pushed=6_644,
    cloned=1_000_000,
    lazy_epoch=3_322,
    model_rows=610,
    logged=2_000_000,
    runs=1_000,
    session_s=20,
    checked=33_200,
    tiny_packs=2_000,
    image_stride=4,
)
QUICK = Sizes(
    small=10_000,
    large=300,
    bulk_large=700,
    histories=(20_000, 200_000),
    labels=200_000,
    streamed_nbytes=256 << 20,
    pushed=700,
    cloned=50_000,
    lazy_epoch=800,
    model_rows=60,
    logged=100_000,
    runs=100,
    session_s=3,
    checked=3_000,
    tiny_packs=300,
    image_stride=40,
)


@dataclass(frozen=True, slots=True)
class History:
    """A repository of `count` tiny samples: two commits 10 changes apart, under the branches `before` and `after`."""

    path: Path
    count: int


class Materials:
    """The stopwatch, the folder, the sizes, and all that is made to them."""

    def __init__(self, folder: Path, sizes: Sizes, stopwatch: Stopwatch) -> None:
        self.folder = folder
        self.sizes = sizes
        self.stopwatch = stopwatch
        self.random = np.random.default_rng(20_260_701)
        self.open_history = cache(self._make_history)

    def make_samples(self, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """`(count, *shape)` random bytes."""
        nbytes = count * int(np.prod(shape))
        return np.frombuffer(self.random.bytes(nbytes), np.uint8).reshape(count, *shape)

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        """`(n, 3, 32, 32)`."""
        return self.make_samples(self.sizes.small, SMALL_SHAPE)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """`(n,)`, one for each of `small`."""
        return self.random.integers(0, 10, self.sizes.small, dtype=np.int64)

    @cached_property
    def small_repository(self) -> Path:
        """`small` and `labels` as the columns `image` and `label`."""
        return self._commit("small", image=self.small, label=self.labels)

    @cached_property
    def small_map(self) -> NDArray[np.uint8]:
        """`small` as a memory map of a file."""
        return self._map("small", self.small)

    @cached_property
    def label_map(self) -> NDArray[np.int64]:
        """`labels` as a memory map of a file."""
        return self._map("labels", self.labels)

    @cached_property
    def large_pair(self) -> tuple[NDArray[np.uint8], Path]:
        """`(n, 3, 224, 224)` as a memory map of a file, and a repository with the same as the column `image`."""
        samples = self.make_samples(self.sizes.large, LARGE_SHAPE)
        return self._map("large", samples), self._commit("large", image=samples)

    @cached_property
    def image_repository(self) -> Path:
        """A repository with nothing but `small`."""
        return self._commit("images-only", image=self.small)

    @cached_property
    def label_repository(self) -> Path:
        """A repository with nothing but a column of int64 labels."""
        return self._commit("labels-only", label=self.random.integers(0, 1000, self.sizes.labels, dtype=np.int64))

    def make_tiny(self) -> NDArray[np.uint8]:
        """One tiny sample that no repository holds yet."""
        return np.frombuffer(self.random.bytes(TINY_NBYTES), np.uint8)

    def _make_history(self, count: int) -> History:
        path = self._commit(f"history-{count}", sample=self.make_samples(count, (TINY_NBYTES,)))
        with StockRoom(path) as stock:
            stock.create_branch("before")
            with stock.enable_write("Change ten samples"):
                column = stock.data["sample"]
                for key in self.random.choice(count, 10, replace=False).tolist():
                    column[key] = self.make_tiny()
            stock.create_branch("after")
        return History(path, count)

    def _commit(self, name: str, **columns: NDArray[Any]) -> Path:
        path = self.folder / name
        with StockRoom.init(path, name="Bench", email="bench@example.org") as stock, stock.enable_write("Add data"):
            for column, values in columns.items():
                stock.data[column] = values
        return path

    def _map(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        save_durably(path, values)
        mapped = np.load(path, mmap_mode="r")
        assert isinstance(mapped, np.memmap)
        return mapped


def write_durably(path: Path) -> None:
    """Write one small file and sync it: the least that anything durable can cost on this disk."""
    with path.open("wb") as file:
        file.write(b"one small record")
        file.flush()
        os.fsync(file.fileno())


def save_durably(path: Path, values: NDArray[Any]) -> None:
    """`np.save` that returns when the bytes are on disk."""
    with path.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
