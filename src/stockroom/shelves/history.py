"""What users are told of history: commits as the log shows them, and what is staged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from stockroom.refs import LoggedCommit
from stockroom.repository import Diff


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log. Ids are full hex digests; `time` carries the author's zone."""

    id: str
    parents: tuple[str, ...]
    message: str
    author: str
    email: str
    time: datetime
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """What is staged. `changes` maps `data/<column>` to its difference from HEAD."""

    branch: str | None
    commit_id: str | None
    changes: Diff

    @property
    def clean(self) -> bool:
        """Whether the stage equals HEAD."""
        return not self.changes


def describe_commit(entry: LoggedCommit) -> Commit:
    """A commit as the log shows it."""
    record = entry.record
    zone = timezone(timedelta(minutes=record.offset_minutes)) if record.offset_minutes else UTC
    return Commit(
        id=entry.commit_id.hex(),
        parents=tuple(parent.hex() for parent in record.parents),
        message=record.message,
        author=record.author,
        email=record.email,
        time=datetime.fromtimestamp(record.time_ns / 1e9, zone),
        metadata=dict(record.metadata),
    )
