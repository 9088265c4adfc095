"""What a change of refs is, before it is applied: a value, made here, applied by `RefStore.apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
from stockroom.refs.ref import Ref
from stockroom.refs.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RefMove:
    """`ref` goes from `old` to `new`; None is a ref that is not there.

    `old` is a condition: the move fails if the ref stands elsewhere by then.
    """

    ref: Ref
    old: CommitId | None
    new: CommitId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefChange:
    """All that happens in one transaction.

    Attributes:
        kind: the word for it in the operation log.
        moves: what refs do; each becomes one operation.
        commits: records to add, parents before children.
        shallow: commits whose parents are left out on purpose.
        stages: name -> stage to set, or None to clear it.
        note: free text for the operation log.
        undoes: number of the operation this takes back.
    """

    kind: str
    moves: tuple[RefMove, ...] = ()
    commits: tuple[CommitRecord, ...] = ()
    shallow: tuple[CommitId, ...] = ()
    stages: Mapping[str, Stage | None] = field(default_factory=dict)
    note: str = ""
    undoes: int | None = None


def add_commit(record: CommitRecord, *, branch: str, old: CommitId | None) -> RefChange:
    """Record a commit and move `branch` from `old` to it; the caller adds what happens to the stage."""
    move = RefMove(ref=Ref("branch", branch), old=old, new=record.commit_id)
    return RefChange(kind="commit", moves=(move,), commits=(record,), note=_first_line(record.message))


def create_branch(name: str, *, at: CommitId) -> RefChange:
    """A new branch."""
    return RefChange(kind="branch", moves=(RefMove(ref=Ref("branch", name), old=None, new=at),))


def delete_branch(name: str, *, at: CommitId) -> RefChange:
    """Remove a branch that stands `at` that commit."""
    return RefChange(kind="delete-branch", moves=(RefMove(ref=Ref("branch", name), old=at, new=None),))


def create_tag(name: str, *, at: CommitId) -> RefChange:
    """A new tag."""
    return RefChange(kind="tag", moves=(RefMove(ref=Ref("tag", name), old=None, new=at),))


def delete_tag(name: str, *, at: CommitId) -> RefChange:
    """Remove a tag that stands `at` that commit."""
    return RefChange(kind="delete-tag", moves=(RefMove(ref=Ref("tag", name), old=at, new=None),))


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:200]
