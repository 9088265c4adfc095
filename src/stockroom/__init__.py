"""Version control for software 2.0: data, models and experiments as tensors, beside git.

Start with `StockRoom`; `make_torch_dataset` feeds its columns to a DataLoader. Their methods return and raise the other
names. Importing this package does not load torch, nor anything else that a program may not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom import errors
from stockroom.errors import *  # noqa: F403 - the errors module declares what it exports
from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.content.diff import ChangeCounts, ColumnDiff, Diff, StateDiff
    from stockroom.content.merge.conflict import Conflict
    from stockroom.refs.merge_base import Divergence
    from stockroom.refs.operations import Operation
    from stockroom.remotes.collisions import LeftOutRef
    from stockroom.remotes.fetch import FetchReport, RejectedTag
    from stockroom.remotes.gc import RemoteGcReport
    from stockroom.remotes.pull import PullReport
    from stockroom.remotes.push import PushReport, RefUpdate
    from stockroom.remotes.remote_repair import RemoteRepairReport
    from stockroom.repository.merging.commands import Merge
    from stockroom.repository.position import Position
    from stockroom.repository.tie_status import TieStatus
    from stockroom.repository.upkeep.chunk_owners import Tally
    from stockroom.repository.upkeep.gc import GcReport
    from stockroom.repository.upkeep.repair import RepairReport
    from stockroom.repository.upkeep.usage import BranchCost, Cost, Usage
    from stockroom.repository.upkeep.verify import VerifyReport
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.data.values import Schema
    from stockroom.shelves.experiment.artifacts import Artifact, Artifacts
    from stockroom.shelves.experiment.metrics import Metrics, MetricSummary, Series
    from stockroom.shelves.experiment.shelf import ExperimentShelf
    from stockroom.shelves.experiment.table import ExperimentRow, ExperimentTable
    from stockroom.shelves.model.leaf_info import LeafInfo
    from stockroom.shelves.model.shelf import ModelShelf
    from stockroom.shelves.model.state import State
    from stockroom.shelves.report import (
        BlameLine,
        Commit,
        DropReport,
        MergeUnderWay,
        PrefetchReport,
        Presence,
        Stash,
        Status,
    )
    from stockroom.shelves.stock.log_choice import LogChoice
    from stockroom.shelves.stock.session import Session
    from stockroom.shelves.stock.stock import StockRoom
    from stockroom.store.upkeep.verify import Damage, Unchecked
    from stockroom.torch import make_torch_dataset

__version__ = "0.1.0"

_LAZY = {
    "stockroom.content.diff": "ChangeCounts ColumnDiff Diff StateDiff",
    "stockroom.content.merge.conflict": "Conflict",
    "stockroom.refs.merge_base": "Divergence",
    "stockroom.refs.operations": "Operation",
    "stockroom.remotes.collisions": "LeftOutRef",
    "stockroom.remotes.fetch": "FetchReport RejectedTag",
    "stockroom.remotes.gc": "RemoteGcReport",
    "stockroom.remotes.pull": "PullReport",
    "stockroom.remotes.push": "PushReport RefUpdate",
    "stockroom.remotes.remote_repair": "RemoteRepairReport",
    "stockroom.repository.merging.commands": "Merge",
    "stockroom.repository.position": "Position",
    "stockroom.repository.tie_status": "TieStatus",
    "stockroom.repository.upkeep.chunk_owners": "Tally",
    "stockroom.repository.upkeep.gc": "GcReport",
    "stockroom.repository.upkeep.repair": "RepairReport",
    "stockroom.repository.upkeep.usage": "BranchCost Cost Usage",
    "stockroom.repository.upkeep.verify": "VerifyReport",
    "stockroom.shelves.data.column": "Column",
    "stockroom.shelves.data.shelf": "DataShelf",
    "stockroom.shelves.data.values": "Schema",
    "stockroom.shelves.experiment.artifacts": "Artifact Artifacts",
    "stockroom.shelves.experiment.metrics": "Metrics MetricSummary Series",
    "stockroom.shelves.experiment.shelf": "ExperimentShelf",
    "stockroom.shelves.experiment.table": "ExperimentRow ExperimentTable",
    "stockroom.shelves.model.leaf_info": "LeafInfo",
    "stockroom.shelves.model.shelf": "ModelShelf",
    "stockroom.shelves.model.state": "State",
    "stockroom.shelves.report": "BlameLine Commit DropReport MergeUnderWay PrefetchReport Presence Stash Status",
    "stockroom.shelves.stock.log_choice": "LogChoice",
    "stockroom.shelves.stock.session": "Session",
    "stockroom.shelves.stock.stock": "StockRoom",
    "stockroom.store.upkeep.verify": "Damage Unchecked",
    "stockroom.torch": "make_torch_dataset",
}
"""Modules, and the names that are loaded from them on first use."""

__all__ = [
    "Artifact",
    "Artifacts",
    "BlameLine",
    "BranchCost",
    "ChangeCounts",
    "Column",
    "ColumnDiff",
    "Commit",
    "Conflict",
    "Cost",
    "Damage",
    "DataShelf",
    "Diff",
    "Divergence",
    "DropReport",
    "ExperimentRow",
    "ExperimentShelf",
    "ExperimentTable",
    "FetchReport",
    "GcReport",
    "LeafInfo",
    "LeftOutRef",
    "LogChoice",
    "Merge",
    "MergeUnderWay",
    "MetricSummary",
    "Metrics",
    "ModelShelf",
    "Operation",
    "Position",
    "PrefetchReport",
    "Presence",
    "PullReport",
    "PushReport",
    "RefUpdate",
    "RejectedTag",
    "RemoteGcReport",
    "RemoteRepairReport",
    "RepairReport",
    "Schema",
    "Series",
    "Session",
    "Stash",
    "State",
    "StateDiff",
    "Status",
    "StockRoom",
    "Tally",
    "TieStatus",
    "Unchecked",
    "Usage",
    "VerifyReport",
    "__version__",
    "make_torch_dataset",
    *errors.__all__,
]
__all__.sort()

__getattr__ = load_lazily(__name__, {name: module for module, names in _LAZY.items() for name in names.split()})


def __dir__() -> list[str]:
    return __all__.copy()
