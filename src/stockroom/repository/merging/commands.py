"""Merge, revert and cherry-pick: bringing one line of history into another, continuing and aborting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stockroom.content.merge.base import CommonContent, find_common_content
from stockroom.content.merge.conflict import Conflict, Decide, explain_conflicts
from stockroom.content.merge.content import ContentMerge
from stockroom.content.merge.states import Average
from stockroom.content.merge.unfinished import CHERRY_PICK, MERGE, REVERT, Merging, record_conflicts
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import ConflictError
from stockroom.refs import Ref, RefChange, RefMove, find_merge_bases
from stockroom.repository.follow import explain_detached
from stockroom.repository.head import Head
from stockroom.repository.merging.resolve import get_merging
from stockroom.repository.writing.session import WriteSession

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


def merge(session: WriteSession, theirs: CommitId, name: str, options: MergeOptions) -> Merge:
    """Merge the history of a commit, called `name`, into the checked-out branch.

    Raises:
        MergeConflictError: undecided conflicts prevent the commit; nothing is changed.
        ConflictError: changes are staged, HEAD is detached, no history is shared, or only a fast-forward was allowed.
    """
    branch = _check_branch(session)
    ours = session.head.commit
    bases = [] if ours is None else find_merge_bases(session.repository.refs, ours, theirs)
    if theirs in bases and session.merging is None:
        return _report("up to date", session)
    is_ahead = ours is None or (ours in bases and options.fast_forward != "never")
    session.check_clean(theirs if is_ahead else None)
    if is_ahead:
        move = RefMove(ref=Ref("branch", branch), old=ours, new=theirs)
        session.move_branch(Head(branch, theirs), RefChange(kind=options.kind, moves=(move,), note=name))
        return _report("fast-forward", session)
    if options.fast_forward == "only":
        raise ConflictError(f"cannot fast-forward: {branch!r} has commits that {name!r} does not have")
    if not bases:
        raise ConflictError(f"{branch!r} and {name!r} share no history")
    opened = session.repository.open_snapshots([theirs, *bases], session.nodes)

    def open_snapshot(commit: CommitId | None) -> Snapshot:
        return opened[commit] if commit in opened else _open(session, commit)

    common = find_common_content(session.repository.refs, open_snapshot, session.objects, bases)
    message = options.message or f"Merge {name} into {branch}"
    return _bring_in(session, common, opened[theirs], options, kind=MERGE, parent=theirs, message=message)


def revert(session: WriteSession, commit: CommitId, options: MergeOptions) -> Merge:
    """Commit the opposite of a commit's changes against its first parent."""
    _check_branch(session)
    record = session.repository.read_commit(commit)
    before = _open(session, record.parent_ids[0] if record.parents else None)
    subject = record.message.split("\n", 1)[0]
    message = options.message or f'Revert "{subject}"\n\nThis reverts commit {commit.hex()}.'
    common = CommonContent(_open(session, commit))
    return _bring_in(session, common, before, options, kind=REVERT, parent=None, message=message)


def cherry_pick(session: WriteSession, commit: CommitId, options: MergeOptions) -> Merge:
    """Commit here the changes that a commit made against its first parent elsewhere."""
    _check_branch(session)
    record = session.repository.read_commit(commit)
    common = CommonContent(_open(session, record.parent_ids[0] if record.parents else None))
    message = options.message or record.message
    return _bring_in(session, common, _open(session, commit), options, kind=CHERRY_PICK, parent=None, message=message)


def continue_merge(session: WriteSession, message: str | None = None) -> CommitId:
    """Commit the unfinished merge. Raises `MergeConflictError` while conflicts are open."""
    merging = get_merging(session)
    return session.commit(message or merging.message, {})


def abort_merge(session: WriteSession) -> str:
    """Abort the unfinished merge, drop what was staged with it, and return its kind."""
    kind = get_merging(session).kind
    session.reset()
    return kind


def _bring_in(
    session: WriteSession,
    common: CommonContent,
    theirs: Snapshot,
    options: MergeOptions,
    *,
    kind: str,
    parent: CommitId | None,
    message: str,
) -> Merge:
    """Stage the merge of HEAD's content with theirs, and commit it if asked to; changes nothing if it fails."""
    session.check_clean()
    try:
        merged = ContentMerge(
            common.snapshot, session.base, theirs, session.objects, options.decide, options.average, common.disputed
        ).run()
        if merged.conflicts and options.commits:
            raise explain_conflicts(merged.conflicts, kind)
        if parent is None and not merged.conflicts and merged.snapshot.root == session.base.root:
            session.discard()
            return _report("up to date", session)
        merging = Merging(
            kind=kind,
            theirs=theirs.root,
            parent=parent,
            message=message,
            open_conflicts=record_conflicts(merged.conflicts),
        )
        session.stage_merge(merged.snapshot, merging)
        if options.commits:
            session.commit(message, {})
            return _report("merged", session)
        session.flush()
    except BaseException:
        session.stage_merge(session.base, None)
        session.discard()
        raise
    return _report("staged", session, merged.conflicts)


def _report(outcome: Outcome, session: WriteSession, conflicts: tuple[Conflict, ...] = ()) -> Merge:
    at = session.head.commit
    return Merge(outcome, None if at is None else at.hex(), conflicts)


def _check_branch(session: WriteSession) -> str:
    """Return the branch that is merged into; if nothing is staged, bring the session up to date with it first."""
    branch = session.head.branch
    if branch is None:
        raise explain_detached(session.repository)
    if session.is_clean:
        session.check_branch()
    return branch


def _open(session: WriteSession, commit: CommitId | None) -> Snapshot:
    return session.repository.open_snapshot(commit, session.nodes)
