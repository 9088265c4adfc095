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
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.experiment.artifacts import Artifact
    from stockroom.shelves.experiment.metrics import Series
    from stockroom.shelves.experiment.shelf import ExperimentShelf
    from stockroom.shelves.experiment.table import ExperimentRow, ExperimentTable
    from stockroom.shelves.model.leaf_info import LeafInfo
    from stockroom.shelves.model.shelf import ModelShelf
    from stockroom.shelves.model.state import State
    from stockroom.shelves.report import Commit
    from stockroom.shelves.stock.stock import StockRoom
    from stockroom.torch import make_torch_dataset

__version__ = "0.1.0"

_LAZY = {
    "Artifact": "stockroom.shelves.experiment.artifacts",
    "Column": "stockroom.shelves.data.column",
    "Commit": "stockroom.shelves.report",
    "DataShelf": "stockroom.shelves.data.shelf",
    "ExperimentRow": "stockroom.shelves.experiment.table",
    "ExperimentShelf": "stockroom.shelves.experiment.shelf",
    "ExperimentTable": "stockroom.shelves.experiment.table",
    "LeafInfo": "stockroom.shelves.model.leaf_info",
    "ModelShelf": "stockroom.shelves.model.shelf",
    "Series": "stockroom.shelves.experiment.metrics",
    "State": "stockroom.shelves.model.state",
    "StockRoom": "stockroom.shelves.stock.stock",
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
