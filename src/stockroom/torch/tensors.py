"""Batches of samples as torch tensors, without a copy wherever torch knows the dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stockroom.shelves.data.sample_reader import Batch
from stockroom.shelves.data.values import Array
from stockroom.store.dtypes import EXTENSION_NAMES

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "make_torch_dataset needs PyTorch: install it with `pip install 'stockroom-vcs[torch]'`", name=error.name
    ) from error


def to_tensor(array: Array) -> torch.Tensor:
    """A tensor on the memory of `array`. Dates and durations become their int64 counts.

    A float8 variant that torch lacks comes as its uint8 bits.
    """
    if array.dtype.name in EXTENSION_NAMES or array.dtype.name == "float8_e4m3":
        bits = torch.from_numpy(array.view(np.uint8 if array.dtype.itemsize == 1 else np.int16))
        dtype: Any = getattr(torch, array.dtype.name, None)
        return bits if dtype is None else bits.view(dtype)
    return torch.from_numpy(array.view(np.int64) if array.dtype.kind in "mM" else array)


def split_samples(batch: Batch) -> Sequence[Any]:
    """The samples of a batch: tensors that share its memory, or text as it is."""
    if isinstance(batch, np.ndarray):
        return to_tensor(batch).unbind(0)
    return [to_tensor(sample) if isinstance(sample, np.ndarray) else sample for sample in batch]
