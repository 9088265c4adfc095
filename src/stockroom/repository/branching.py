"""Branches, tags and HEAD: creating, deleting, checking out and resetting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, InvalidInputError, RefNotFoundError
from stockroom.refs import RefChange, RefMove, changes, check_collision, check_name, is_ancestor
from stockroom.refs.ref import Ref
from stockroom.repository.head import Head
from stockroom.repository.repository import Repository

if TYPE_CHECKING:
    from stockroom.repository.writing.stage_workspace import StageWorkspace


def create_branch(repository: Repository, name: str, at: CommitId) -> None:
    """Create a branch. Raises `InvalidNameError` if the name is bad, `InvalidInputError` if it exists."""
    if repository.refs.find_branch(name) is not None:
        raise InvalidInputError(f"branch {name!r} already exists; choose another name or delete it first")
    repository.refs.apply(changes.create_branch(name, at=at))


def delete_branch(repository: Repository, name: str, *, head: Head, force: bool) -> None:
    """Delete a branch that is not checked out; unless forced, HEAD must have all its commits."""
    at = repository.refs.find_branch(name)
    if at is None:
        repository.resolve(name)  # raises with near names if nothing is called that
        raise RefNotFoundError(f"{name!r} is not a branch", ref=name)
    if name == head.branch:
        raise ConflictError(f"branch {name!r} is checked out; check out another branch first")
    if not force and (head.commit is None or not is_ancestor(repository.refs, at, head.commit)):
        raise ConflictError(
            f"branch {name!r} has commits that {head.branch or 'HEAD'} does not have; force its deletion (-D)"
        )
    repository.refs.apply(changes.delete_branch(name, at=at))


def create_tag(repository: Repository, name: str, at: CommitId) -> None:
    """Create a tag. Raises `InvalidNameError` if the name is bad, `InvalidInputError` if it exists."""
    if repository.refs.find_ref(Ref("tag", name)) is not None:
        raise InvalidInputError(f"tag {name!r} already exists; choose another name or delete it first")
    repository.refs.apply(changes.create_tag(name, at=at))


def delete_tag(repository: Repository, name: str) -> None:
    """Delete a tag. Raises `RefNotFoundError` if there is none."""
    at = repository.refs.find_ref(Ref("tag", name))
    if at is None:
        known = ", ".join(repository.refs.tags()) or "none"
        raise RefNotFoundError(f"no tag {name!r}; tags: {known}", ref=name)
    repository.refs.apply(changes.delete_tag(name, at=at))


def checkout(workspace: StageWorkspace, name: str, *, create: bool) -> Head:
    """Move HEAD and return it; writes only `head.stock`, and the new branch if `create`.

    A new branch starts at HEAD and keeps the stage; moving elsewhere needs a clean stage. In the tie, only git
    makes and switches branches: raises `ConflictError` with git's command.
    """
    repository = workspace.repository
    if repository.find_tie() is not None:
        return _stay(workspace, name, create=create)
    if create:
        _make_branch_here(repository, name, workspace.head)
        head = Head(name, workspace.head.commit)
        repository.paths.head.write(head)
        workspace.rename_head(head)
        return head
    if not workspace.is_stranded:
        workspace.check_clean()
    head = _resolve_target(repository, name, workspace.head)
    workspace.check_clean(head.commit)
    if head != workspace.head:
        repository.paths.head.write(head)
    workspace.move_head(head)
    return head


def reset_to(workspace: StageWorkspace, target: CommitId) -> None:
    """Move the checked-out branch, or a detached HEAD, to a commit, and drop the stage."""
    branch = workspace.head.branch
    if branch is None:
        workspace.reset()
        head = Head(None, target)
        workspace.repository.paths.head.write(head)
        workspace.move_head(head)
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


def _stay(workspace: StageWorkspace, name: str, *, create: bool) -> Head:
    """Return HEAD if `name` is the branch git is on. Otherwise raises `ConflictError` with git's command."""
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


def _make_branch_here(repository: Repository, name: str, head: Head) -> None:
    check_name("branch", name)
    if name == head.branch or repository.refs.find_branch(name) is not None:
        raise InvalidInputError(f"branch {name!r} already exists; check it out without create (-b)")
    if head.commit is None:  # nothing to point it at: its first commit creates it
        check_collision("branch", name, repository.refs.branches())
    else:
        create_branch(repository, name, head.commit)
