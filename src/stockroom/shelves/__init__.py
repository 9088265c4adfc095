"""What users hold: the `StockRoom` handle and its shelves."""

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
