"""Decides which refs of a remote a push moves, and which moves it must refuse."""

from __future__ import annotations

from collections.abc import Sequence

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError, RefChangedError, RefNotFoundError, StockroomError
from stockroom.refs import Ref, RefMove, RefStore, is_ancestor
from stockroom.remotes.format.ref_state import RefState, make_following
from stockroom.remotes.refspecs import PushRequest, parse_prefix
from stockroom.repository.paths import DEFAULT_BRANCH


def plan_updates(state: RefState | None, request: PushRequest) -> list[RefMove]:
    """Return the moves of a remote's refs from `state` to where they are wanted, without those already there."""
    wanted = dict(request.refs)
    for name in request.deleted:
        for ref in _list_named(state, name)[:1]:
            wanted[ref] = None
    moves = [RefMove(ref=ref, old=find_in_state(state, ref), new=new) for ref, new in wanted.items()]
    return [move for move in moves if move.old != move.new]


def find_refusal(
    refs: RefStore, state: RefState | None, updates: Sequence[RefMove], request: PushRequest, *, remote: str
) -> StockroomError | None:
    """Return the reason to refuse updates: one would lose commits of the remote, move a tag, or delete nothing."""
    for name in request.deleted:
        named = _list_named(state, name)
        if len(named) != 1:
            return _refuse_deletion(name, named, remote)
    for update in updates:
        refusal = _find_loss(refs, update, request, remote)
        if refusal is not None:
            return refusal
    return None


def _find_loss(refs: RefStore, update: RefMove, request: PushRequest, remote: str) -> RefChangedError | None:
    (kind, name), old, new = update.ref, _say(update.old), _say(update.new)
    if update.ref in request.leases:
        expected = request.leases[update.ref]
        if update.old == expected:
            return None
        return RefChangedError(
            f"remote {remote!r} has {name!r} at {old}, not at {_say(expected)} as `--force-with-lease` expects (stale "
            f"info): run `stock fetch {remote}`, and look at what is new"
        )
    if update.old is None or update.new is None or update.ref in request.forced:
        return None
    if kind == "tag":
        return RefChangedError(f"remote {remote!r} has tag {name!r} at {old}, not {new}: only --force moves a tag")
    if refs.has_commit(update.old) and is_ancestor(refs, update.old, update.new):
        return None
    return RefChangedError(
        f"remote {remote!r} has {name!r} at {old}, which is not an ancestor of {new}: run "
        "`stock pull` first (--force discards it there)"
    )


def _refuse_deletion(name: str, named: Sequence[Ref], remote: str) -> StockroomError:
    if named:
        return InvalidInputError(
            f"remote {remote!r} has a branch and a tag {name!r}: delete refs/heads/{name} or refs/tags/{name}"
        )
    return RefNotFoundError(f"remote {remote!r} has no branch or tag {name!r} to delete", ref=name)


def _list_named(state: RefState | None, name: str) -> list[Ref]:
    """Return the refs of the remote that a name to delete fits."""
    prefixed = parse_prefix(name)
    candidates = [prefixed] if prefixed else [Ref("branch", name), Ref("tag", name)]
    return [ref for ref in candidates if find_in_state(state, ref) is not None]


def _say(commit: CommitId | None) -> str:
    return "no commit" if commit is None else commit.hex()[:12]


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
