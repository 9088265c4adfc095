"""Changes of refs, as values: created here, and applied by `RefStore.apply`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
from stockroom.refs.ref import Ref
from stockroom.refs.stage import Stage

RENAME: Final = "rename"
"""The kind of the operations that rename a branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefMove:
    """`ref` moves from `old` to `new`, or fails unless it is at `old`; None means that the ref does not exist."""

    ref: Ref
    old: CommitId | None
    new: CommitId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMove:
    """The stage `name` goes from `old` to `new`, and the log keeps both for undo; None is an empty stage."""

    name: str
    old: Stage | None
    new: Stage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefChange:
    """Everything that one transaction changes.

    Attributes:
        kind: its kind in the operation log.
        moves: the moves of refs; each becomes one operation.
        stage_moves: the moves of stages that undo can take back; each becomes one operation.
        commits: records to add, parents before children.
        shallow: commits whose parents are left out on purpose, from now on.
        whole: commits whose parents are left out no more, and are here or among `commits`.
        stages: name -> stage to set, or None to clear it, without an operation.
        note: free text for the operation log.
        undoes: number of the first operation of the change that this one takes back.
    """

    kind: str
    moves: tuple[RefMove, ...] = ()
    stage_moves: tuple[StageMove, ...] = ()
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


def amend_commit(record: CommitRecord, *, branch: str, old: CommitId, is_shallow: bool) -> RefChange:
    """Return the change that puts a commit in the place of a branch's last one, `old`; the caller adds the stage."""
    move = RefMove(ref=Ref("branch", branch), old=old, new=record.commit_id)
    shallow = (record.commit_id,) if is_shallow else ()
    note = _first_line(record.message)
    return RefChange(kind="amend", moves=(move,), commits=(record,), shallow=shallow, note=note)


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


def move_branch_to(name: str, *, old: CommitId, new: CommitId) -> RefChange:
    """Return the change that moves a branch that is not checked out."""
    return RefChange(kind="reset", moves=(RefMove(ref=Ref("branch", name), old=old, new=new),))


def rename_branch(old: str, new: str, *, at: CommitId, replaced: CommitId | None) -> RefChange:
    """Return the change that renames a branch; `replaced` is the commit of a branch that had the new name."""
    moves = (
        RefMove(ref=Ref("branch", old), old=at, new=None),
        RefMove(ref=Ref("branch", new), old=replaced, new=at),
    )
    return RefChange(kind=RENAME, moves=moves, note=f"{old} -> {new}")


def move_tag(name: str, *, old: CommitId, new: CommitId) -> RefChange:
    """Return the change that moves a tag."""
    return RefChange(kind="tag", moves=(RefMove(ref=Ref("tag", name), old=old, new=new),))


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:200]
