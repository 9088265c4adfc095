"""The only place where bytes and history meet: opening, write sessions, HEAD, differences, verification."""

from stockroom.repository.column import ColumnRecord
from stockroom.repository.column_edit import ColumnEdit
from stockroom.repository.diff import ChangeCounts, ColumnDiff, Diff
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity, init_repository
from stockroom.repository.repository import Repository
from stockroom.repository.session import STAGE_NAME, WriteSession
from stockroom.repository.snapshot import DATA, Snapshot

__all__ = [
    "DATA",
    "STAGE_NAME",
    "ChangeCounts",
    "ColumnDiff",
    "ColumnEdit",
    "ColumnRecord",
    "Diff",
    "Head",
    "Identity",
    "Repository",
    "Snapshot",
    "WriteSession",
    "init_repository",
]
