"""What users are told of history: commits as the log shows them, and what is staged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from stockroom.content.diff import Diff
from stockroom.content.merge.conflict import Conflict
from stockroom.content.snapshot import DATA, EXPERIMENT, MODEL
from stockroom.refs import LoggedCommit

_SHELVES: Final = (DATA, MODEL, EXPERIMENT)


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

    def _repr_html_(self) -> str:
        from stockroom.content.html_table import format_table  # here for start-up time

        rows: list[tuple[object, ...]] = [
            ("author", f"{self.author} <{self.email}>"),
            ("time", self.time.isoformat(" ", "seconds")),
            ("parents", ", ".join(parent[:12] for parent in self.parents[:5]) or "none"),
            ("message", self.message),
        ]
        return format_table(f"commit {self.id[:12]}", rows + list(self.metadata.items()))


@dataclass(frozen=True, slots=True)
class MergeUnderWay:
    """A merge that is staged and not committed yet.

    Attributes:
        kind: `merge`, `revert` or `cherry-pick`.
        commit: the full hex digest of the commit that is merged; None where the new commit follows HEAD alone.
        message: what the commit will say.
        conflicts: those that nobody has decided yet.
    """

    kind: str
    commit: str | None
    message: str
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What is staged.

    Attributes:
        changes: `data/<column>` and the like to its difference from the commit `staged_on`.
        merge: the one under way, if any is.
        staged_on: HEAD's commit, unless HEAD has been moved since, as git can.
    """

    branch: str | None
    commit_id: str | None
    changes: Diff
    merge: MergeUnderWay | None = None
    staged_on: str | None = None

    @property
    def clean(self) -> bool:
        """Whether the stage equals HEAD, and no merge is under way."""
        return not self.changes and self.merge is None


@dataclass(frozen=True, slots=True)
class Presence:
    """How much of the packs is on this machine."""

    packs: int
    whole_packs: int
    nbytes: int
    present_nbytes: int


@dataclass(frozen=True, slots=True)
class PrefetchReport:
    """What was brought here, or, for a dry run, would be: of the samples and leaves asked for, what was absent.

    `read_nbytes` in `requests` are what that takes: small gaps between samples are read through.
    """

    samples: int
    nbytes: int
    read_nbytes: int
    requests: int
    left_out: int


@dataclass(frozen=True, slots=True)
class DropReport:
    """What was given up, or, for a dry run, would be; `kept` packs stayed because no remote was seen to hold them."""

    packs: int
    nbytes: int
    kept: int


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


def describe_changes(paths: Iterable[str]) -> str:
    """The message of a commit that was given none: `Update data, model and experiment`."""
    kinds = {path.partition("/")[0] for path in paths}
    shelves = {kind if kind in _SHELVES else EXPERIMENT for kind in kinds}
    names = [shelf for shelf in _SHELVES if shelf in shelves] or [DATA]
    return f"Update {' and '.join(part for part in (', '.join(names[:-1]), names[-1]) if part)}"
