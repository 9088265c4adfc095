"""What brings one line of history into another: merge, revert and cherry-pick, and deciding what they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import ConflictError, InvalidInputError, NotFoundError
from stockroom.refs import RefChange, RefMove, find_merge_bases
from stockroom.repository.conflict import Choice, Conflict, Decide, explain_conflicts
from stockroom.repository.head import Head
from stockroom.repository.merge import ContentMerge, find_base, put_record
from stockroom.repository.merge_states import Average
from stockroom.repository.merging import CHERRY_PICK, MERGE, REVERT, Merging, record_conflicts
from stockroom.repository.session import WriteSession
from stockroom.repository.snapshot import Snapshot
from stockroom.trees import Key

Outcome = Literal["up to date", "fast-forward", "merged", "staged"]
_UP_TO_DATE: Final = "up to date"


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did; `commit_id` is where the branch stands now, `conflicts` those left open on the stage."""

    outcome: Outcome
    commit_id: CommitId | None
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge: who decides conflicts, whether to commit, and whether a fast-forward will do, or must."""

    decide: Decide
    average: Average | None = None
    message: str | None = None
    commits: bool = True
    fast_forward: Literal["if possible", "never", "only"] = "if possible"
    kind: str = MERGE


def merge(session: WriteSession, theirs: CommitId, name: str, options: MergeOptions) -> MergeReport:
    """Bring the history of a commit, called `name`, into the branch that is checked out.

    Raises:
        MergeConflictError: both sides changed the same, and nobody decides; nothing is changed.
        ConflictError: changes are staged, HEAD is detached, or there is no common history.
    """
    session.check_clean()
    branch, ours = session.head.branch, session.head.commit
    if branch is None:
        raise ConflictError("HEAD is detached: check out a branch to merge into")
    bases = [] if ours is None else find_merge_bases(session.repository.refs, ours, theirs)
    if theirs in bases:
        return MergeReport(_UP_TO_DATE, ours)
    if ours is None or (ours in bases and options.fast_forward != "never"):
        move = RefMove(ref=f"branch/{branch}", old=ours, new=theirs)
        session.move_branch(Head(branch, theirs), RefChange(kind=options.kind, moves=(move,), note=name))
        return MergeReport("fast-forward", theirs)
    if options.fast_forward == "only":
        raise ConflictError(f"{branch!r} has commits that {name!r} does not: it cannot be fast-forwarded")
    if not bases:
        raise ConflictError(f"{branch!r} and {name!r} have no commit in common: they are histories of different things")
    base = find_base(session.repository.refs, lambda commit: _open(session, commit), session.objects, bases)
    message = options.message or f"Merge {name} into {branch}"
    return _bring_in(session, base, _open(session, theirs), options, kind=MERGE, parent=theirs, message=message)


def revert(session: WriteSession, commit: CommitId, options: MergeOptions) -> MergeReport:
    """Commit the opposite of what a commit changed against its first parent."""
    record = session.repository.read_commit(commit)
    before = _open(session, record.parent_ids[0] if record.parents else None)
    subject = record.message.split("\n", 1)[0]
    message = options.message or f"Revert {subject!r}\n\nThis reverts commit {commit.hex()}."
    return _bring_in(session, _open(session, commit), before, options, kind=REVERT, parent=None, message=message)


def cherry_pick(session: WriteSession, commit: CommitId, options: MergeOptions) -> MergeReport:
    """Commit here what a commit changed against its first parent elsewhere."""
    record = session.repository.read_commit(commit)
    before = _open(session, record.parent_ids[0] if record.parents else None)
    message = options.message or record.message
    return _bring_in(session, before, _open(session, commit), options, kind=CHERRY_PICK, parent=None, message=message)


def resolve(
    session: WriteSession, path: str, key: Key | None, choice: Choice | None, average: Average | None = None
) -> int:
    """Decide the open conflicts at a path, or the one at a key; how many are left open in all.

    `choice` None takes what is staged there now: for what was set to a value of its own.

    Raises `NotFoundError` where no merge is under way or nothing there is in conflict.
    """
    merging = _get_merging(session)
    chosen = [c for c in merging.conflicts if c.path == path and (key is None or _is_key(c, key))]
    if not chosen:
        raise NotFoundError(
            f"{path}{'' if key is None else f', {key!r}'}: not in conflict; `stock merge` lists what is"
        )
    left = [conflict for conflict in merging.conflicts if conflict not in chosen]
    content = session.snapshot
    if choice is not None and not (choice == "ours" and all(c.key is not None for c in chosen)):
        content = _apply_choice(session, merging, path, chosen, choice, average)
    session.stage_merge(content, merging.leave(left))
    session.flush()
    return len(left)


def continue_merge(session: WriteSession, message: str | None = None) -> CommitId:
    """Commit the merge under way; `MergeConflictError` while conflicts are open."""
    merging = _get_merging(session)
    return session.commit(message or merging.message, {})


def abort_merge(session: WriteSession) -> str:
    """Give up the merge under way, and what was staged with it; its kind."""
    kind = _get_merging(session).kind
    session.reset()
    return kind


def _bring_in(
    session: WriteSession,
    base: Snapshot,
    theirs: Snapshot,
    options: MergeOptions,
    *,
    kind: str,
    parent: CommitId | None,
    message: str,
) -> MergeReport:
    session.check_clean()
    merge = ContentMerge(base, session.base, theirs, session.objects, options.decide, options.average)
    merged = merge.run()
    if merged.conflicts and options.commits:
        session.discard()
        raise explain_conflicts(merged.conflicts, kind)
    conflicts = list(merged.conflicts)
    if parent is None and not conflicts and merged.snapshot.root == session.base.root:
        session.discard()
        return MergeReport(_UP_TO_DATE, session.head.commit)
    merging = Merging(
        kind=kind,
        theirs=theirs.root,
        base=base.root,
        parent=parent,
        message=message,
        open_conflicts=record_conflicts(conflicts),
    )
    session.stage_merge(merged.snapshot, merging)
    if options.commits:
        return MergeReport("merged", session.commit(message, {}))
    session.flush()
    return MergeReport("staged", session.head.commit, tuple(conflicts))


def _apply_choice(
    session: WriteSession,
    merging: Merging,
    path: str,
    chosen: Sequence[Conflict],
    choice: Choice,
    average: Average | None,
) -> Snapshot:
    """The staged content with the conflicts at a path decided: what is staged there counts as ours."""
    if any(conflict.key is None for conflict in chosen):
        return _take_whole(session, merging, path, choice)
    base, theirs = (Snapshot(session.nodes, ObjectDigest(root)) for root in (merging.base, merging.theirs))
    keys = {conflict.key for conflict in chosen}
    merge = ContentMerge(
        base,
        session.snapshot,
        theirs,
        session.objects,
        lambda found: choice if found.key in keys else None,
        average,
    )
    decided = merge.merge_path(path)
    undecided = [c for c in merge.conflicts if c.key in keys]
    if undecided:
        raise InvalidInputError(
            f"{path}: {choice!r} cannot decide {undecided[0].key!r}; choose ours, theirs or a value"
        )
    return put_record(session.snapshot, path, decided)


def _take_whole(session: WriteSession, merging: Merging, path: str, choice: Choice) -> Snapshot:
    if choice == "average":
        raise InvalidInputError(f"{path}: only single tensors of a model can be averaged; choose ours or theirs")
    source = session.base if choice == "ours" else Snapshot(session.nodes, ObjectDigest(merging.theirs))
    return put_record(session.snapshot, path, source.find_digest(path))


def _get_merging(session: WriteSession) -> Merging:
    if session.merging is None:
        raise NotFoundError("no merge is under way; `stock merge REF --no-commit` begins one")
    return session.merging


def _is_key(conflict: Conflict, key: Key) -> bool:
    return conflict.key == key or str(conflict.key) == str(key)


def _open(session: WriteSession, commit: CommitId | None) -> Snapshot:
    return session.repository.open_snapshot(commit, session.nodes)
