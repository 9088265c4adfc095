"""Changes of refs, as values: created here, and applied by `RefStore.apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
from stockroom.refs.ref import Ref
from stockroom.refs.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RefMove:
    """`ref` moves from `old` to `new`, or fails unless it is at `old`; None means that the ref does not exist."""

    ref: Ref
    old: CommitId | None
    new: CommitId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefChange:
    """Everything that one transaction changes.

    Attributes:
        kind: its kind in the operation log.
        moves: the moves of refs; each becomes one operation.
        commits: records to add, parents before children.
        shallow: commits whose parents are left out on purpose, from now on.
        whole: commits whose parents are left out no more, and are here or among `commits`.
        stages: name -> stage to set, or None to clear it.
        note: free text for the operation log.
        undoes: number of the operation that this one undoes.
    """

    kind: str
    moves: tuple[RefMove, ...] = ()
    commits: tuple[CommitRecord, ...] = ()
    shallow: tuple[CommitId, ...] = ()
    whole: tuple[CommitId, ...] = ()
    stages: Mapping[str, Stage | None] = field(default_factory=dict)
    note: str = ""
    undoes: int | None = None


def add_commit(record: CommitRecord, *, branch: str, old: CommitId | None) -> RefChange:
    """Return the change that adds a commit and moves `branch` from `old` to it; the caller adds the stage."""
    move = RefMove(ref=Ref("branch", branch), old=old, new=record.commit_id)
    return RefChange(kind="commit", moves=(move,), commits=(record,), note=_first_line(record.message))


def create_branch(name: str, *, at: CommitId) -> RefChange:
    """Return the change that creates a branch."""
    return RefChange(kind="branch", moves=(RefMove(ref=Ref("branch", name), old=None, new=at),))


def delete_branch(name: str, *, at: CommitId) -> RefChange:
    """Return the change that deletes a branch, which must be `at` that commit."""
    return RefChange(kind="delete-branch", moves=(RefMove(ref=Ref("branch", name), old=at, new=None),))


def create_tag(name: str, *, at: CommitId) -> RefChange:
    """Return the change that creates a tag."""
    return RefChange(kind="tag", moves=(RefMove(ref=Ref("tag", name), old=None, new=at),))


def delete_tag(name: str, *, at: CommitId) -> RefChange:
    """Return the change that deletes a tag, which must be `at` that commit."""
    return RefChange(kind="delete-tag", moves=(RefMove(ref=Ref("tag", name), old=at, new=None),))


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:200]
