"""Columns as PyTorch data sets."""

from stockroom.torch.dataset import ColumnDataset, make_torch_dataset

__all__ = ["ColumnDataset", "make_torch_dataset"]
