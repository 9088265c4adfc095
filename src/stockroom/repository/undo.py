"""Undo and redo: they take back the newest change of refs and of the stage that can still be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, InvalidNameError, NotFoundError
from stockroom.refs import Operation, Ref, RefChange, RefMove, Stage, StageMove, check_collision, is_ancestor
from stockroom.refs.operations import REDO, UNDO, Change, invert_moves, iter_redoable, iter_undoable
from stockroom.refs.ref import parse_ref
from stockroom.refs.stage import digest_stage
from stockroom.repository.head import Head
from stockroom.repository.repository import Repository
from stockroom.repository.writing.refusals import explain_unfit

if TYPE_CHECKING:
    from stockroom.repository.writing.stage_workspace import StageWorkspace

OnSkip: TypeAlias = Callable[[Operation, str], None]
"""Called with the first operation of a change that cannot be taken back any more, and the reason."""

_COLLECTED: Final = "gc has deleted what it needs"


def undo(workspace: StageWorkspace, *, on_skip: OnSkip = lambda *_: None) -> Operation:
    """Undo the newest change that is not undone yet, and return its first operation; HEAD follows if it was there.

    Raises:
        NotFoundError: nothing is left to undo.
        ConflictError: staged changes are in the way, or the branch that is checked out would go.
    """
    repository = workspace.repository
    undoable = iter_undoable(repository.refs.iter_operations(), stage=workspace.stage_name)
    return _take_back(workspace, undoable, UNDO, on_skip)[0]


def redo(workspace: StageWorkspace, *, on_skip: OnSkip = lambda *_: None) -> Operation:
    """Take back the newest undo that is not redone yet, and return the operation that is done again.

    Raises as `undo` does.
    """
    refs = workspace.repository.refs
    redoable = iter_redoable(refs.iter_operations(), stage=workspace.stage_name)
    undone = _take_back(workspace, redoable, REDO, on_skip)[0]
    assert undone.undoes is not None
    return refs.find_operation(undone.undoes) or undone


def _take_back(workspace: StageWorkspace, changes: Iterable[Change], kind: str, on_skip: OnSkip) -> Change:
    """Take back the first of `changes` that can be, and return it."""
    skipped = ""
    for change in changes:
        obstacle = _find_obstacle(workspace.repository, change)
        if obstacle is None:
            _invert(workspace, change, kind)
            return change
        first = change[0]
        skipped = skipped or f"; operation {first.number} ({first.kind} {first.ref}) cannot be: {obstacle}"
        on_skip(first, obstacle)
    raise NotFoundError(f"nothing to {kind}{skipped}; `stock reflog` lists all operations")


def _find_obstacle(repository: Repository, change: Change) -> str | None:
    """Return why a change cannot be taken back, or None if it can."""
    refs = repository.refs
    for operation in change:
        if operation.stage_name is not None:
            if operation.old is not None and refs.find_dropped(operation.old) is None:
                return _COLLECTED
            continue
        ref = parse_ref(operation.ref)
        if refs.find_ref(ref) != operation.new:
            return f"{operation.ref} has moved since"
        if operation.old is not None and not refs.has_commit(CommitId(operation.old)):
            return _COLLECTED
        if operation.new is None and not _is_free(repository, ref):
            return f"another {ref.kind} has a name too much like {ref.name!r}"
    return None


def _is_free(repository: Repository, ref: Ref) -> bool:
    names = repository.refs.branches() if ref.kind == "branch" else repository.refs.tags()
    with suppress(InvalidNameError):
        check_collision(ref.kind, ref.name, names)
        return True
    return False


def _invert(workspace: StageWorkspace, change: Change, kind: str) -> None:
    """Apply the opposite of a change, which nothing prevents except staged changes."""
    moves = invert_moves(change)
    head = workspace.head if _can_stay(workspace, moves, change) else _follow(workspace.head, moves, change, kind)
    inverse = RefChange(
        kind=kind,
        moves=moves,
        stage_moves=_plan_stage(workspace, change, head),
        note=", ".join(f"{operation.kind} {operation.ref}" for operation in change),
        undoes=change[0].number,
    )
    now = workspace.find_stage()
    stays = now if now is not None and now.base == head.commit else None
    stage = next((move.new for move in inverse.stage_moves), stays)
    if head != workspace.head:
        _check_fit(workspace, stage, head)
        workspace.move_branch(head, inverse, stage=stage)
    elif inverse.stage_moves:
        head = _choose_place(workspace, stage)
        _check_fit(workspace, stage, head)
        workspace.set_stage(head, inverse, stage)
    else:
        workspace.repository.refs.apply(inverse)


def _choose_place(workspace: StageWorkspace, stage: Stage | None) -> Head:
    """Return HEAD at the base of a stage, if its branch has only gone on since: both then stay behind the branch."""
    repository, head = workspace.repository, workspace.head
    if stage is None or stage.base is None or head.commit is None or head.branch is None:
        return head
    has_gone_on = repository.find_tie() is None and is_ancestor(repository.refs, stage.base, head.commit)
    return Head(head.branch, stage.base) if has_gone_on else head


def _check_fit(workspace: StageWorkspace, stage: Stage | None, head: Head) -> None:
    """Raise `ConflictError` if an open writer would get back a stage that it cannot continue from."""
    if stage is not None and stage.base != head.commit and not workspace.may_strand:
        raise explain_unfit(stage)


def _plan_stage(workspace: StageWorkspace, change: Change, head: Head) -> tuple[StageMove, ...]:
    """Return the move of the stage that goes with a HEAD at `head`.

    Raises `ConflictError` if it would drop changes that are not in the log.
    """
    refs, now = workspace.repository.refs, workspace.find_stage()
    ends = [operation.old for operation in change if operation.stage_name is not None]
    if not ends and (now is None or head.commit in (workspace.head.commit, now.base)):
        return ()
    wanted = refs.find_dropped(ends[0]) if ends and ends[0] is not None else None
    if now not in (None, wanted) and refs.find_dropped(digest_stage(now)) is None:
        workspace.check_clean()
    return (StageMove(name=workspace.stage_name, old=now, new=wanted),)


def _can_stay(workspace: StageWorkspace, moves: Iterable[RefMove], change: Change) -> bool:
    """Return whether HEAD's branch moves ahead of staged changes: they stay behind it, as when sessions commit."""
    now, head = workspace.find_stage(), workspace.head
    if now is None or now.base != head.commit or any(operation.stage_name is not None for operation in change):
        return False
    new = next((move.new for move in moves if move.ref == Ref("branch", head.branch or "")), None)
    return head.commit is not None and new is not None and is_ancestor(workspace.repository.refs, head.commit, new)


def _follow(head: Head, moves: Iterable[RefMove], change: Change, kind: str) -> Head:
    """Return HEAD after `moves`: it follows its branch if it is at the same commit, also to another name.

    Raises `ConflictError` if the branch goes without another in its place.
    """
    ours = Ref("branch", head.branch or "")
    move = next((move for move in moves if move.ref == ours and move.old == head.commit), None)
    if move is None:
        return head
    if move.new is not None:
        return Head(head.branch, move.new)
    for other in moves:
        if other.ref.kind == "branch" and other.old is None and other.new == head.commit:
            return Head(other.ref.name, other.new)
    if kind == REDO or change[0].kind == "branch":
        raise ConflictError(
            f"{kind} would delete branch {head.branch!r}, which is checked out; check out another branch first"
        )
    return Head(head.branch, None)
