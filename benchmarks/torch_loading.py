"""Training's own way of reading: a shuffled DataLoader, workers and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from materials import Materials
from row import Row, compare_rates
from stockroom import StockRoom, make_torch_dataset

BATCH = 256
EPOCHS = 7


def loader_epoch(materials: Materials) -> Iterator[Row]:
    """A shuffled epoch of images and labels in batches of 256, beside the same DataLoader over memory maps."""
    mapped = MappedDataset([materials.small_map, materials.label_map])
    with StockRoom(materials.small_repository) as stock:
        columns = make_torch_dataset([stock.data["image"], stock.data["label"]])
        for workers in (0, 2):
            pair = materials.stopwatch.compare(
                partial(_run_epoch, _make_loader(mapped, workers)),
                partial(_run_epoch, _make_loader(columns, workers)),
                rounds=EPOCHS,
                after=lambda count: _check(count, len(mapped)),
            )
            work = f"shuffled DataLoader epoch of {len(mapped):,}, batch {BATCH}, {workers} workers"
            yield compare_rates(work, pair, at_least_ratio=0.8)


class MappedDataset(Dataset[Any]):
    """The data set one would write over memory maps: batched, and tensors made as Stockroom makes them."""

    def __init__(self, maps: Sequence[NDArray[Any]]) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps[0])

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        positions = np.asarray(indices, np.int64)
        return list(zip(*[torch.from_numpy(mapped[positions]).unbind(0) for mapped in self._maps], strict=True))


def _make_loader(dataset: Dataset[Any], workers: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers)


def _run_epoch(loader: DataLoader[Any], _: int) -> int:
    """How many samples came out."""
    return sum(len(labels) for _images, labels in loader)


def _check(count: object, expected: int) -> None:
    assert count == expected, f"expected {expected} samples in an epoch, found {count}"
