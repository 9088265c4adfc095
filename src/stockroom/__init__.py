"""Version control for software 2.0: data, models and experiments as tensors, beside git.

`StockRoom` is the way in; `make_torch_dataset` gives its columns to a DataLoader. Importing this package loads neither
torch nor anything else that a program might not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom import errors
from stockroom.errors import *  # noqa: F403 - the errors module declares what it exports
from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.shelves.artifacts import Artifact
    from stockroom.shelves.column import Column
    from stockroom.shelves.data import DataShelf
    from stockroom.shelves.experiment import ExperimentShelf
    from stockroom.shelves.experiment_table import ExperimentRow, ExperimentTable
    from stockroom.shelves.handle import StockRoom
    from stockroom.shelves.history import Commit
    from stockroom.shelves.leaf_info import LeafInfo
    from stockroom.shelves.metrics import Series
    from stockroom.shelves.model import ModelShelf
    from stockroom.shelves.state import State
    from stockroom.torch import make_torch_dataset

__version__ = "0.1.0"

_LAZY = {
    "Artifact": "stockroom.shelves.artifacts",
    "Column": "stockroom.shelves.column",
    "Commit": "stockroom.shelves.history",
    "DataShelf": "stockroom.shelves.data",
    "ExperimentRow": "stockroom.shelves.experiment_table",
    "ExperimentShelf": "stockroom.shelves.experiment",
    "ExperimentTable": "stockroom.shelves.experiment_table",
    "LeafInfo": "stockroom.shelves.leaf_info",
    "ModelShelf": "stockroom.shelves.model",
    "Series": "stockroom.shelves.metrics",
    "State": "stockroom.shelves.state",
    "StockRoom": "stockroom.shelves.handle",
    "make_torch_dataset": "stockroom.torch",
}

__all__ = [
    "Artifact",
    "Column",
    "Commit",
    "DataShelf",
    "ExperimentRow",
    "ExperimentShelf",
    "ExperimentTable",
    "LeafInfo",
    "ModelShelf",
    "Series",
    "State",
    "StockRoom",
    "__version__",
    "make_torch_dataset",
    *errors.__all__,
]


__getattr__ = load_lazily(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
