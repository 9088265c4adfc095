"""PyTorch: columns as data sets, tensors as leaves of states. Importing this package alone does not load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.torch.dataset import ColumnDataset, make_torch_dataset

__all__ = ["ColumnDataset", "make_torch_dataset"]


__getattr__ = load_lazily(__name__, dict.fromkeys(__all__, "stockroom.torch.dataset"))
