"""Branches, tags and HEAD: creating, deleting, checking out and resetting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, InvalidInputError, RefNotFoundError
from stockroom.refs import (
    RefChange,
    RefMove,
    Stage,
    StageMove,
    changes,
    check_collision,
    check_name,
    is_ancestor,
)
from stockroom.refs.ref import Ref
from stockroom.repository.head import Head
from stockroom.repository.repository import Repository
from stockroom.repository.upstream import move_upstream

if TYPE_CHECKING:
    from stockroom.repository.writing.stage_workspace import StageWorkspace

PREVIOUS_SPECS: Final = ("-", "@{-1}")
"""Names for what was checked out before."""


def create_branch(repository: Repository, name: str, at: CommitId, *, force: bool = False) -> None:
    """Create a branch; with `force`, move an existing one that is not checked out.

    Raises `InvalidNameError` if the name is bad, `InvalidInputError` if the branch exists, `ConflictError` if it is
    checked out.
    """
    old = repository.refs.find_branch(name)
    if old is None:
        repository.refs.apply(changes.create_branch(name, at=at))
        return
    if not force:
        raise InvalidInputError(f"branch {name!r} already exists; choose another name, or move it with force (-f)")
    if name == repository.follow(repository.read_head()).branch:
        raise ConflictError(f"branch {name!r} is checked out; move it with `stock reset --hard`")
    if old != at:
        repository.refs.apply(changes.move_branch_to(name, old=old, new=at))


def rename_branch(workspace: StageWorkspace, old: str, new: str, *, force: bool) -> None:
    """Rename a branch; HEAD follows if it is checked out. With `force`, another branch of the new name is replaced.

    Raises `RefNotFoundError`, `InvalidNameError`, `InvalidInputError` if the new name is taken, or `ConflictError` if
    git must rename it, or the other branch is checked out.
    """
    refs, head = workspace.repository.refs, workspace.head
    check_name("branch", new)
    if old == new:
        return
    is_here = old == head.branch
    if is_here and workspace.repository.find_tie() is not None:
        raise ConflictError(f"git tracks head.stock here, so git renames the branch: run `git branch -m {new}`")
    at, replaced = refs.find_branch(old), refs.find_branch(new)
    if at is None:
        if is_here and replaced is None:  # it has no commits yet
            workspace.write_head(Head(new, None))
            return
        raise _not_a_branch(workspace.repository, old)
    if replaced is not None and not force:
        raise InvalidInputError(f"branch {new!r} already exists; choose another name, or replace it with force (-M)")
    if replaced is not None and new == head.branch:
        raise ConflictError(f"branch {new!r} is checked out; check out another branch first")
    check_collision("branch", new, [name for name in refs.branches() if name != old])
    change = changes.rename_branch(old, new, at=at, replaced=replaced)
    if is_here:
        workspace.move_branch(Head(new, head.commit), change, content=workspace.snapshot)
    else:
        refs.apply(change)
    move_upstream(workspace.repository.paths, old, new)


def delete_branch(repository: Repository, name: str, *, head: Head, force: bool) -> None:
    """Delete a branch that is not checked out; unless forced, HEAD must have all its commits."""
    at = repository.refs.find_branch(name)
    if at is None:
        raise _not_a_branch(repository, name)
    if name == head.branch:
        raise ConflictError(f"branch {name!r} is checked out; check out another branch first")
    if not force and (head.commit is None or not is_ancestor(repository.refs, at, head.commit)):
        raise ConflictError(
            f"branch {name!r} has commits that {head.branch or 'HEAD'} does not have; force its deletion (-D)"
        )
    repository.refs.apply(changes.delete_branch(name, at=at))
    move_upstream(repository.paths, name, None)


def create_tag(repository: Repository, name: str, at: CommitId, *, force: bool = False) -> None:
    """Create a tag, or, with `force`, move it. Raises `InvalidNameError`, or `InvalidInputError` if it exists."""
    old = repository.refs.find_ref(Ref("tag", name))
    if old is None:
        repository.refs.apply(changes.create_tag(name, at=at))
    elif not force:
        raise InvalidInputError(f"tag {name!r} already exists; choose another name, or move it with force (-f)")
    elif old != at:
        repository.refs.apply(changes.move_tag(name, old=old, new=at))


def delete_tag(repository: Repository, name: str) -> None:
    """Delete a tag. Raises `RefNotFoundError` if there is none."""
    at = repository.refs.find_ref(Ref("tag", name))
    if at is None:
        known = ", ".join(repository.refs.tags()) or "none"
        raise RefNotFoundError(f"no tag {name!r}; tags: {known}", ref=name)
    repository.refs.apply(changes.delete_tag(name, at=at))


def checkout(
    workspace: StageWorkspace,
    name: str,
    *,
    create: bool = False,
    at: CommitId | None = None,
    force: bool = False,
    detach: bool = False,
) -> Head:
    """Move HEAD and return it; writes only `head.stock` and what was checked out before, and the branch if `create`.

    A new branch starts at `at`, HEAD if None; with `force` it may exist, and moves there. The stage moves along to
    another branch at the same commit; moving to another commit needs a clean stage. `detach` leaves the branch. In the
    tie, only git makes and switches branches: raises `ConflictError` with git's command.
    """
    repository = workspace.repository
    if repository.find_tie() is not None:
        return _stay(workspace, name, create=create)
    if create:
        head = _plan_branch(repository, name, workspace.head, at, force=force)
    else:
        name = find_previous(repository, name) or name
        head = _resolve_target(repository, name, workspace.head)
    if detach:
        head = Head(None, head.commit)
    is_busy = workspace.is_stranded or workspace.merging is not None
    if head.commit != workspace.head.commit or (is_busy and not create):
        workspace.check_clean(head.commit)
    if create and name == workspace.head.branch:
        if at is not None and at != workspace.head.commit:
            reset_to(workspace, at)
        return workspace.head
    if create and head.commit is not None:
        create_branch(repository, name, head.commit, force=force)
    repository.paths.head.note_previous(workspace.head)
    workspace.write_head(head)
    return head


def find_previous(repository: Repository, name: str) -> str | None:
    """Return the branch or commit that was checked out before, if `name` is `-` or `@{-1}`; otherwise None.

    Raises `RefNotFoundError` if nothing was.
    """
    if name not in PREVIOUS_SPECS:
        return None
    previous = repository.paths.head.find_previous()
    if previous is None:
        raise RefNotFoundError(f"{name!r}: nothing was checked out before", ref=name)
    return previous.branch or (previous.commit.hex() if previous.commit else None)


def reset_to(workspace: StageWorkspace, target: CommitId, *, keep_stage: bool = False) -> None:
    """Move the checked-out branch, or a detached HEAD, to a commit, and drop the stage.

    With `keep_stage`, the staged content stays, and becomes changes of the target.
    """
    branch = workspace.head.branch
    if keep_stage:
        _reset_softly(workspace, target)
        return
    if branch is None:
        workspace.reset()
        workspace.write_head(Head(None, target))
        return
    tip = workspace.repository.refs.find_branch(branch)  # sessions may have moved it past HEAD
    if tip == workspace.head.commit == target:
        workspace.reset()
        return
    moves = () if tip == target else (RefMove(ref=Ref("branch", branch), old=tip, new=target),)
    change = RefChange(
        kind="reset", moves=moves, stage_moves=workspace.plan_drop(), stages={workspace.stage_name: None}
    )
    workspace.move_branch(Head(branch, target), change)


def _reset_softly(workspace: StageWorkspace, target: CommitId) -> None:
    workspace.check_settled()
    content, branch = workspace.snapshot, workspace.head.branch
    base = workspace.repository.open_snapshot(target, workspace.nodes)
    stage = None if content.root == base.root else Stage(base=target, root=content.root)
    moves: tuple[RefMove, ...] = ()
    if branch is not None:
        tip = workspace.repository.refs.find_branch(branch)
        moves = () if tip == target else (RefMove(ref=Ref("branch", branch), old=tip, new=target),)
    old, name = workspace.find_stage(), workspace.stage_name
    stage_moves = () if stage is None and old is None else (StageMove(name=name, old=old, new=stage),)
    change = RefChange(kind="reset", moves=moves, stage_moves=stage_moves, stages={name: stage})
    workspace.move_branch(Head(branch, target), change, content=content)


def _not_a_branch(repository: Repository, name: str) -> RefNotFoundError:
    repository.resolve(name)  # raises with near names if nothing is called that
    return RefNotFoundError(f"{name!r} is not a branch", ref=name)


def _stay(workspace: StageWorkspace, name: str, *, create: bool) -> Head:
    """Return HEAD if `name` is the branch git is on. Otherwise raises `ConflictError` with git's command."""
    if name in PREVIOUS_SPECS:
        raise ConflictError("git tracks head.stock here, so git moves HEAD: `git switch -` switches the data too")
    if create:
        raise ConflictError(
            f"git tracks head.stock here, so git creates branches: run `git switch -c {name}`; commits follow it"
        )
    if name == workspace.head.branch:
        return workspace.head
    _resolve_target(workspace.repository, name, workspace.head)  # raises with near names if nothing is called that
    raise ConflictError(
        f"git tracks head.stock here, so git moves HEAD: `git switch {name}` switches the data too. To move git's "
        f"branch to {name!r}, run `stock reset --hard {name}`; to only read {name!r}, pass its name "
        f"(`stock ls {name}`, `StockRoom(ref=...)`)"
    )


def _resolve_target(repository: Repository, name: str, head: Head) -> Head:
    """Return the HEAD for checking out `name`: on a branch, or detached at any other ref."""
    at = repository.refs.find_branch(name)
    if at is not None:
        return Head(name, at)
    if name == head.branch and head.commit is None:  # the checked-out branch has no commits yet
        return head
    return Head(None, repository.resolve(name, head))


def _plan_branch(repository: Repository, name: str, head: Head, at: CommitId | None, *, force: bool) -> Head:
    """Return the HEAD on a new branch. Raises `InvalidNameError`, or `InvalidInputError` if it exists."""
    check_name("branch", name)
    if not force and (name == head.branch or repository.refs.find_branch(name) is not None):
        raise InvalidInputError(f"branch {name!r} already exists; check it out without create (-b)")
    check_collision("branch", name, repository.refs.branches())
    return Head(name, head.commit if at is None else at)
