"""The only place where bytes and history meet: opening, write sessions, HEAD, differences, verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.repository.column import ColumnRecord
    from stockroom.repository.column_edit import ColumnEdit
    from stockroom.repository.conflict import Conflict
    from stockroom.repository.diff import ChangeCounts, ColumnDiff, Diff, RecordDiff, StateDiff
    from stockroom.repository.head import Head
    from stockroom.repository.paths import Identity, init_repository
    from stockroom.repository.repository import Repository
    from stockroom.repository.session import WriteSession
    from stockroom.repository.snapshot import ARTIFACT, DATA, EXPERIMENT, METRIC, MODEL, Snapshot
    from stockroom.repository.state import StateRecord, ValueRecord
    from stockroom.repository.workspace import Workspace

_MODULES = {
    "ChangeCounts": "stockroom.repository.diff",
    "ColumnDiff": "stockroom.repository.diff",
    "Conflict": "stockroom.repository.conflict",
    "ColumnEdit": "stockroom.repository.column_edit",
    "ColumnRecord": "stockroom.repository.column",
    "ARTIFACT": "stockroom.repository.snapshot",
    "DATA": "stockroom.repository.snapshot",
    "EXPERIMENT": "stockroom.repository.snapshot",
    "METRIC": "stockroom.repository.snapshot",
    "MODEL": "stockroom.repository.snapshot",
    "Diff": "stockroom.repository.diff",
    "Head": "stockroom.repository.head",
    "Identity": "stockroom.repository.paths",
    "RecordDiff": "stockroom.repository.diff",
    "Repository": "stockroom.repository.repository",
    "StateDiff": "stockroom.repository.diff",
    "StateRecord": "stockroom.repository.state",
    "ValueRecord": "stockroom.repository.state",
    "Snapshot": "stockroom.repository.snapshot",
    "Workspace": "stockroom.repository.workspace",
    "WriteSession": "stockroom.repository.session",
    "init_repository": "stockroom.repository.paths",
}
"""Where each name is: loaded when it is asked for, since a fetch agent needs only a few of them."""

__all__ = [
    "ARTIFACT",
    "DATA",
    "EXPERIMENT",
    "METRIC",
    "MODEL",
    "ChangeCounts",
    "ColumnDiff",
    "ColumnEdit",
    "ColumnRecord",
    "Conflict",
    "Diff",
    "Head",
    "Identity",
    "RecordDiff",
    "Repository",
    "Snapshot",
    "StateDiff",
    "StateRecord",
    "ValueRecord",
    "Workspace",
    "WriteSession",
    "init_repository",
]


__getattr__ = load_lazily(__name__, _MODULES)
