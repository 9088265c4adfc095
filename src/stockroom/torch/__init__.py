"""PyTorch: columns as data sets, tensors as leaves of states. Importing this package alone does not load torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockroom.torch.dataset import ColumnDataset, make_torch_dataset

__all__ = ["ColumnDataset", "make_torch_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stockroom.torch' has no attribute {name!r}")
    return getattr(importlib.import_module("stockroom.torch.dataset"), name)
