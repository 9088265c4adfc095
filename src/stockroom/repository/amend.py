"""Amending: replacing the commit that HEAD is on by one with the staged changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import NothingToCommitError, RefChangedError
from stockroom.refs import RefChange
from stockroom.refs.changes import amend_commit
from stockroom.refs.commit import CommitRecord, MetadataValue
from stockroom.repository.git.tie import Tie
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity
from stockroom.repository.writing.stage_workspace import StageWorkspace
from stockroom.repository.writing.workspace import check_message

_OF_GIT: Final = ("git_commit", "git_branch", "git_dirty")
"""The metadata that the tie writes: it is about the moment of the commit."""


def amend(
    workspace: StageWorkspace,
    message: str | None,
    metadata: Mapping[str, MetadataValue],
    author: Identity | None = None,
    *,
    allow_empty: bool = False,
) -> CommitId:
    """Replace HEAD's commit by one that has the staged content, the same parents and, unless given, message and author.

    Its time is now. Raises `NothingToCommitError` if there is no commit yet, or it would change nothing and not
    `allow_empty`; `ConflictError` if a merge is unfinished, or HEAD is detached.
    """
    workspace.check_settled()
    tip = workspace.head.commit
    if tip is None:
        raise NothingToCommitError("there is no commit yet to amend; create one with `stock commit`")
    old = workspace.repository.read_commit(tip)
    if message is not None:
        check_message(message, {})
    kept = {name: value for name, value in old.metadata.items() if name not in _OF_GIT}

    def propose(head: Head, content: Snapshot, tie: Tie | None) -> RefChange:
        if head.commit != tip:
            raise RefChangedError(f"branch {head.branch!r} has new commits, so this one is not its last; try again")
        if not allow_empty and _is_empty(workspace, old, content):
            raise NothingToCommitError(
                "the amended commit would change nothing: allow that (--allow-empty), or drop the commit with `stock "
                "reset --hard HEAD~1`"
            )
        record = workspace.repository.make_commit(
            content.root,
            old.parent_ids,
            message=old.message if message is None else message,
            metadata=kept | dict(metadata),
            author=author or Identity(old.author, old.email),
            tie=tie,
        )
        is_shallow = tip in workspace.repository.refs.shallow()
        return amend_commit(record, branch=head.branch or "", old=tip, is_shallow=is_shallow)

    return workspace.land(propose)


def _is_empty(workspace: StageWorkspace, old: CommitRecord, content: Snapshot) -> bool:
    """Return whether a commit of `content` in the place of `old` would change nothing; a merge never counts as such."""
    repository, parents = workspace.repository, old.parent_ids
    if len(parents) > 1 or not all(map(repository.refs.has_commit, parents)):
        return False
    return content.root == repository.open_snapshot(parents[0] if parents else None, workspace.nodes).root
