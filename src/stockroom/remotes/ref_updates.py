"""Decides which refs of a remote a push moves, and which moves it must refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError, RefChangedError, RefNotFoundError
from stockroom.refs import Ref, RefMove, RefStore, is_ancestor
from stockroom.remotes.format.ref_state import RefState, make_following
from stockroom.repository.follow import follow_git_if_free
from stockroom.repository.paths import DEFAULT_BRANCH
from stockroom.repository.repository import Repository


def resolve_push(repository: Repository, ref: str | None, *, tags: bool = False) -> dict[Ref, CommitId | None]:
    """Resolve `stock push [REF]`: a branch (None: the one checked out), a tag, or `:NAME` to delete a branch."""
    refs = repository.refs
    wanted: dict[Ref, CommitId | None] = {}
    if ref is not None and ref.startswith(":"):
        wanted[Ref("branch", ref[1:])] = None
    elif ref is not None and refs.find_branch(ref) is None and refs.find_ref(Ref("tag", ref)) is not None:
        wanted[Ref("tag", ref)] = refs.find_ref(Ref("tag", ref))
    else:
        if ref is None:
            follow_git_if_free(repository)
        name = repository.follow(repository.read_head()).branch if ref is None else ref
        if name is None:
            raise InvalidInputError("HEAD is detached: name the branch or tag to push")
        at = refs.find_branch(name)
        if at is None:
            raise RefNotFoundError(
                f"no branch or tag {name!r} to push; `stock branch` and `stock tag` list them", ref=name
            )
        wanted[Ref("branch", name)] = at
    if tags:
        wanted.update({Ref("tag", name): at for name, at in refs.tags().items()})
    return wanted


def plan_updates(state: RefState | None, wanted: Mapping[Ref, CommitId | None]) -> list[RefMove]:
    """Return the moves of a remote's refs from `state` to where they are wanted, without those already there."""
    moves = [RefMove(ref=ref, old=find_in_state(state, ref), new=new) for ref, new in wanted.items()]
    return [move for move in moves if move.old != move.new]


def find_refusal(refs: RefStore, updates: Sequence[RefMove], *, remote: str) -> RefChangedError | None:
    """Return the reason to refuse updates, if one would lose commits of the remote or move a tag."""
    for update in updates:
        if update.old is None or update.new is None:
            continue
        kind, name = update.ref
        old, new = update.old.hex()[:12], update.new.hex()[:12]
        if kind == "tag":
            return RefChangedError(f"remote {remote!r} has tag {name!r} at {old}, not {new}: only --force moves a tag")
        if not refs.has_commit(update.old) or not is_ancestor(refs, update.old, update.new):
            return RefChangedError(
                f"remote {remote!r} has {name!r} at {old}, which is not an ancestor of {new}: run "
                "`stock pull` first (--force discards it there)"
            )
    return None


def find_in_state(state: RefState | None, ref: Ref) -> CommitId | None:
    """Return the commit of a remote's ref, or None if it has no such ref."""
    if state is None:
        return None
    found = (state.branches if ref.kind == "branch" else state.tags).get(ref.name)
    return None if found is None else CommitId(found)


def follow_updates(state: RefState | None, updates: Sequence[RefMove]) -> RefState:
    """Return the state after `state`, with refs moved."""
    refs: dict[str, dict[str, bytes]] = {
        "branch": dict(state.branches) if state is not None else {},
        "tag": dict(state.tags) if state is not None else {},
    }
    for update in updates:
        kind, name = update.ref
        if update.new is None:
            refs[kind].pop(name, None)
        else:
            refs[kind][name] = update.new
    branches, head = refs["branch"], None if state is None else state.head
    if head not in branches:
        head = DEFAULT_BRANCH if DEFAULT_BRANCH in branches else min(branches, default=None)
    return make_following(state, head=head, branches=branches, tags=refs["tag"])
