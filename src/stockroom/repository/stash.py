"""Stashing: putting staged changes aside as a commit that no branch has, and bringing them back by a merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stockroom.content.merge.conflict import Conflict, explain_conflicts
from stockroom.content.merge.content import ContentMerge
from stockroom.content.places import Place
from stockroom.content.restore import take_places
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import NothingToCommitError
from stockroom.refs import RefChange, Stage, StashEntry
from stockroom.refs.stash import make_stash_stage, name_stash
from stockroom.repository.merging.commands import MergeOptions
from stockroom.repository.repository import Repository
from stockroom.repository.writing.stage_workspace import StageWorkspace

_KIND = "stash"
_ADVICE = (
    "The stash is kept; choose a side (strategy `ours` for what is staged, `theirs` for the stash, or -X theirs=PATH)"
)


def push_stash(
    workspace: StageWorkspace, message: str | None, places: Sequence[Place] | None = None
) -> CommitId | None:
    """Move the staged changes, or those at some places, to a new stash; return its commit, or None if there are none.

    Raises `ConflictError` while a merge is unfinished, `NothingToCommitError` before the first commit.
    """
    workspace.check_settled()
    head = workspace.head
    if head.commit is None:
        raise NothingToCommitError("there is no commit yet, so nothing can be stashed; create one with `stock commit`")
    staged, base = workspace.snapshot, workspace.base
    stashed, left = (staged, base) if places is None else _split(workspace, places)
    if stashed.root == base.root:
        return None
    record = workspace.repository.make_commit(
        stashed.root, [head.commit], message=_describe(workspace, message), metadata={}
    )
    refs = workspace.repository.refs
    stages: dict[str, Stage | None] = {name_stash(refs, record): make_stash_stage(record)}
    workspace.stage_content(left)
    workspace.write_stage_with(stages, commits=(record,))
    return record.commit_id


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of applying a stash: its commit, and whether it was dropped."""

    commit: CommitId
    is_dropped: bool


def apply_stash(workspace: StageWorkspace, entry: StashEntry, options: MergeOptions, *, drop: bool) -> Restored:
    """Merge a stash into the stage, and drop it if asked to.

    The three sides are the commit that was stashed on, the stage, and the stash. Raises `MergeConflictError` if both
    changed the same; then the stage is unchanged and the stash is kept.
    """
    workspace.check_settled()
    repository = workspace.repository
    record = repository.read_commit(entry.commit)
    opened = repository.open_snapshots([entry.commit, *record.parent_ids], workspace.nodes)
    content, conflicts = _merge(workspace, opened[record.parent_ids[0]], opened[entry.commit], options)
    if conflicts:
        workspace.objects.discard_unflushed()
        raise explain_conflicts(conflicts, _KIND, advice=_ADVICE)
    workspace.stage_content(content)
    workspace.write_stage_with({entry.stage: None} if drop else {})
    return Restored(entry.commit, drop)


def drop_stashes(repository: Repository, entries: Sequence[StashEntry]) -> None:
    """Drop stashes. Their changes can still be read by the ids of their commits until gc deletes these."""
    repository.refs.apply(RefChange(kind=_KIND, stages=dict.fromkeys(entry.stage for entry in entries)))


def _merge(
    workspace: StageWorkspace, base: Snapshot, theirs: Snapshot, options: MergeOptions
) -> tuple[Snapshot, tuple[Conflict, ...]]:
    workspace.flush()  # so that discarding the objects of a failed merge discards nothing else
    merged = ContentMerge(base, workspace.snapshot, theirs, workspace.objects, options.decide, options.average).run()
    return merged.snapshot, merged.conflicts


def _split(workspace: StageWorkspace, places: Sequence[Place]) -> tuple[Snapshot, Snapshot]:
    """Return HEAD's content with the staged changes at some places, and the staged content without them."""
    staged, base, objects = workspace.snapshot, workspace.base, workspace.objects
    return take_places(base, staged, places, objects), take_places(staged, base, places, objects)


def _describe(workspace: StageWorkspace, message: str | None) -> str:
    """Return the message of a stash, as git writes it."""
    head = workspace.head
    branch = head.branch or "(no branch)"
    if message:
        return f"On {branch}: {message}"
    assert head.commit is not None
    subject = workspace.repository.read_commit(head.commit).message.split("\n", 1)[0]
    return f"WIP on {branch}: {head.commit.hex()[:12]} {subject}"
