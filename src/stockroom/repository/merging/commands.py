"""Merge, revert and cherry-pick: bringing one line of history into another, continuing and aborting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Final, Literal, ParamSpec

from stockroom.content.merge.base import CommonContent, read_common_content
from stockroom.content.merge.conflict import Conflict, Decide, explain_conflicts
from stockroom.content.merge.content import ContentMerge
from stockroom.content.merge.states import Average
from stockroom.content.merge.unfinished import CHERRY_PICK, MERGE, REVERT, Merging, record_conflicts
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import ConflictError, InvalidInputError, RefChangedError
from stockroom.refs import CommitRecord, Ref, RefChange, RefMove, list_merge_bases
from stockroom.repository.follow import explain_detached
from stockroom.repository.head import Head
from stockroom.repository.merging.resolve import get_merging
from stockroom.repository.writing.stage_workspace import StageWorkspace

P = ParamSpec("P")
_REPEATS: Final = 20
Outcome = Literal["up to date", "fast-forward", "merged", "staged"]
FastForward = Literal["if possible", "never", "only"]


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of a merge: `up to date`, `fast-forward`, `merged`, or `staged` with the open `conflicts`.

    `commit_id` is the full hex digest of the commit that the branch is at now.
    """

    outcome: Outcome
    commit_id: str | None
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge: how to decide conflicts, whether to commit, and whether a fast-forward is allowed or required."""

    decide: Decide
    average: Average | None = None
    message: str | None = None
    commits: bool = True
    fast_forward: FastForward = "if possible"
    kind: str = MERGE


def _again_when_outrun(command: Callable[Concatenate[StageWorkspace, P], Merge]) -> Callable[..., Merge]:
    """Return `command` repeated, some times at most, while sessions move the branch before it can."""

    @wraps(command)
    def run(workspace: StageWorkspace, *args: P.args, **kwargs: P.kwargs) -> Merge:
        for _ in range(_REPEATS):
            with suppress(RefChangedError):
                return command(workspace, *args, **kwargs)
            if not workspace.is_clean:
                break
        return command(workspace, *args, **kwargs)

    return run


@_again_when_outrun
def merge(workspace: StageWorkspace, theirs: CommitId, name: str, options: MergeOptions) -> Merge:
    """Merge the history of a commit, called `name`, into the checked-out branch.

    Raises:
        MergeConflictError: undecided conflicts prevent the commit; nothing is changed.
        ConflictError: changes are staged, HEAD is detached, no history is shared, or only a fast-forward was allowed.
    """
    branch = _check_branch(workspace)
    ours = workspace.head.commit
    bases = [] if ours is None else list_merge_bases(workspace.repository.refs, ours, theirs)
    if theirs in bases and workspace.merging is None:
        return _report("up to date", workspace)
    is_ahead = ours is None or (ours in bases and options.fast_forward != "never")
    workspace.check_clean(theirs if is_ahead else None)
    if is_ahead:
        move = RefMove(ref=Ref("branch", branch), old=ours, new=theirs)
        workspace.move_branch(Head(branch, theirs), RefChange(kind=options.kind, moves=(move,), note=name))
        return _report("fast-forward", workspace)
    if options.fast_forward == "only":
        raise ConflictError(f"cannot fast-forward: {branch!r} has commits that {name!r} does not have")
    if not bases:
        raise ConflictError(f"{branch!r} and {name!r} share no history")
    opened = workspace.repository.open_snapshots([theirs, *bases], workspace.nodes)

    def open_snapshot(commit: CommitId | None) -> Snapshot:
        return opened[commit] if commit in opened else _open(workspace, commit)

    common = read_common_content(workspace.repository.refs, open_snapshot, workspace.objects, bases)
    message = options.message or f"Merge {name} into {branch}"
    return _merge_in(workspace, common, opened[theirs], options, kind=MERGE, parent=theirs, message=message)


@_again_when_outrun
def revert(workspace: StageWorkspace, commit: CommitId, options: MergeOptions, mainline: int | None = None) -> Merge:
    """Commit the opposite of a commit's changes against its parent; of a merge, against the parent of that number."""
    _check_branch(workspace)
    record = workspace.repository.read_commit(commit)
    before = _open(workspace, choose_parent(commit, record, mainline))
    subject = record.message.split("\n", 1)[0]
    message = options.message or f'Revert "{subject}"\n\nThis reverts commit {commit.hex()}.'
    common = CommonContent(_open(workspace, commit))
    return _merge_in(workspace, common, before, options, kind=REVERT, parent=None, message=message)


@_again_when_outrun
def cherry_pick(
    workspace: StageWorkspace, commit: CommitId, options: MergeOptions, mainline: int | None = None
) -> Merge:
    """Commit here the changes that a commit made elsewhere against its parent; of a merge, against that parent."""
    _check_branch(workspace)
    record = workspace.repository.read_commit(commit)
    common = CommonContent(_open(workspace, choose_parent(commit, record, mainline)))
    message = options.message or record.message
    return _merge_in(
        workspace, common, _open(workspace, commit), options, kind=CHERRY_PICK, parent=None, message=message
    )


def choose_parent(commit: CommitId, record: CommitRecord, mainline: int | None) -> CommitId | None:
    """Return the parent that a commit's changes are taken against, None for a first commit.

    Raises `InvalidInputError` if `mainline` is missing for a merge, or there is no such parent.
    """
    parents = record.parent_ids
    if len(parents) > 1 and mainline is None:
        raise InvalidInputError(
            f"commit {commit.hex()[:12]} is a merge of {len(parents)} parents: say whose side is the main line, "
            "such as mainline 1 (-m 1)"
        )
    number = 1 if mainline is None else mainline
    if mainline is not None and not 1 <= number <= len(parents):
        raise InvalidInputError(f"commit {commit.hex()[:12]} has {len(parents)} parents, so no parent {number} (-m)")
    return parents[number - 1] if parents else None


def continue_merge(workspace: StageWorkspace, message: str | None = None) -> CommitId:
    """Commit the unfinished merge. Raises `MergeConflictError` while conflicts are open."""
    merging = get_merging(workspace)
    return workspace.commit(message or merging.message, {})


def abort_merge(workspace: StageWorkspace) -> str:
    """Abort the unfinished merge, drop its staged content, and return its kind."""
    kind = get_merging(workspace).kind
    workspace.reset()
    return kind


def _merge_in(
    workspace: StageWorkspace,
    common: CommonContent,
    theirs: Snapshot,
    options: MergeOptions,
    *,
    kind: str,
    parent: CommitId | None,
    message: str,
) -> Merge:
    """Stage the merge of HEAD's content with theirs, and commit it if asked to; changes nothing if it fails."""
    workspace.check_clean()
    try:
        merged = ContentMerge(
            common.snapshot, workspace.base, theirs, workspace.objects, options.decide, options.average, common.disputed
        ).run()
        if merged.conflicts and options.commits:
            raise explain_conflicts(merged.conflicts, kind)
        if parent is None and not merged.conflicts and merged.snapshot.root == workspace.base.root:
            workspace.discard()
            return _report("up to date", workspace)
        merging = Merging(
            kind=kind,
            theirs=theirs.root,
            parent=parent,
            message=message,
            open_conflicts=record_conflicts(merged.conflicts),
        )
        workspace.stage_merge(merged.snapshot, merging)
        if options.commits:
            workspace.commit(message, {})
            return _report("merged", workspace)
        workspace.flush()
    except BaseException:
        workspace.stage_merge(workspace.base, None)
        workspace.discard()
        raise
    return _report("staged", workspace, merged.conflicts)


def _report(outcome: Outcome, workspace: StageWorkspace, conflicts: tuple[Conflict, ...] = ()) -> Merge:
    at = workspace.head.commit
    return Merge(outcome, None if at is None else at.hex(), conflicts)


def _check_branch(workspace: StageWorkspace) -> str:
    """Return the branch that is merged into; if nothing is staged, bring the workspace up to date with it first."""
    branch = workspace.head.branch
    if branch is None:
        raise explain_detached(workspace.repository)
    if workspace.is_clean:
        workspace.check_branch()
    return branch


def _open(workspace: StageWorkspace, commit: CommitId | None) -> Snapshot:
    return workspace.repository.open_snapshot(commit, workspace.nodes)
