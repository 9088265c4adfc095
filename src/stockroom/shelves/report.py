"""Reports on history for users: commits as the log shows them, and the staged changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from stockroom.content.diff import Diff
from stockroom.content.merge.conflict import Conflict
from stockroom.content.snapshot import DATA, EXPERIMENT, MODEL
from stockroom.refs import LoggedCommit
from stockroom.trees import Key

_SHELVES: Final = (DATA, MODEL, EXPERIMENT)


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log. Ids are full hex digests; `time` is in the author's time zone."""

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
class BlameLine:
    """A key of a column or metric, or a leaf of a model, and the commit that last changed it; key None is the whole."""

    path: str
    key: Key | None
    commit: Commit


@dataclass(frozen=True, slots=True)
class Stash:
    """Changes put aside. `name` is `stash@{0}` for the newest, `message` says where they were staged."""

    name: str
    id: str
    message: str
    time: datetime


@dataclass(frozen=True, slots=True)
class MergeUnderWay:
    """A merge that is staged and not committed yet.

    Attributes:
        kind: `merge`, `revert` or `cherry-pick`.
        commit: the full hex digest of the commit that is merged; None if HEAD will be the only parent.
        message: the message of the commit to come.
        conflicts: the undecided conflicts.
    """

    kind: str
    commit: str | None
    message: str
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The staged changes and HEAD.

    Attributes:
        changes: paths such as `data/<column>` to their difference from the commit `staged_on`.
        merge: the unfinished merge, if there is one.
        staged_on: the commit the stage is based on; HEAD's, unless something such as git moved HEAD since.
    """

    branch: str | None
    commit_id: str | None
    changes: Diff
    merge: MergeUnderWay | None = None
    staged_on: str | None = None

    @property
    def clean(self) -> bool:
        """Whether the stage equals HEAD and no merge is unfinished."""
        return not self.changes and self.merge is None


@dataclass(frozen=True, slots=True)
class Presence:
    """How many packs, and bytes of them, are on this machine."""

    packs: int
    whole_packs: int
    nbytes: int
    present_nbytes: int


@dataclass(frozen=True, slots=True)
class PrefetchReport:
    """The result of a prefetch, or the plan of a dry run. `samples` counts the selected samples and leaves.

    Their absent `nbytes` take `read_nbytes` in `requests`, because small gaps are read through. `left_out` chunks were
    too many for `max_nbytes`.
    """

    samples: int
    nbytes: int
    read_nbytes: int
    requests: int
    left_out: int


@dataclass(frozen=True, slots=True)
class DropReport:
    """The packs dropped, or that a dry run would drop; `kept` packs stayed because no remote holds a sound copy."""

    packs: int
    nbytes: int
    kept: int


def describe_commit(entry: LoggedCommit) -> Commit:
    """Return a commit as the log shows it."""
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
    """Return the default message for a commit, such as `Update data, model and experiment`."""
    kinds = {path.partition("/")[0] for path in paths}
    shelves = {kind if kind in _SHELVES else EXPERIMENT for kind in kinds}
    names = [shelf for shelf in _SHELVES if shelf in shelves] or [DATA]
    return f"Update {' and '.join(part for part in (', '.join(names[:-1]), names[-1]) if part)}"
