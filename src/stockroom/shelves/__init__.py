"""What users hold: the `StockRoom` handle and its shelves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.shelves.artifacts import Artifact
    from stockroom.shelves.column import Column
    from stockroom.shelves.data import DataShelf
    from stockroom.shelves.experiment import ExperimentShelf
    from stockroom.shelves.handle import StockRoom
    from stockroom.shelves.history import Commit
    from stockroom.shelves.leaf_info import LeafInfo
    from stockroom.shelves.metrics import Series
    from stockroom.shelves.model import ModelShelf
    from stockroom.shelves.state import State

__all__ = [
    "Artifact",
    "Column",
    "Commit",
    "DataShelf",
    "ExperimentShelf",
    "LeafInfo",
    "ModelShelf",
    "Series",
    "State",
    "StockRoom",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Artifact": "stockroom.shelves.artifacts",
        "Column": "stockroom.shelves.column",
        "DataShelf": "stockroom.shelves.data",
        "ExperimentShelf": "stockroom.shelves.experiment",
        "StockRoom": "stockroom.shelves.handle",
        "Commit": "stockroom.shelves.history",
        "LeafInfo": "stockroom.shelves.leaf_info",
        "Series": "stockroom.shelves.metrics",
        "ModelShelf": "stockroom.shelves.model",
        "State": "stockroom.shelves.state",
    },
)
