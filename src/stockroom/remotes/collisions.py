"""Names of a remote's refs that differ only in case or accents' form: none is pushed, and a fetch leaves them out.

No repository can hold both, so one such name would stop every clone and fetch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stockroom.errors import InvalidNameError
from stockroom.refs import Ref, RefMove, RefStore
from stockroom.refs.names import fold_name
from stockroom.remotes.format.ref_state import RefState


class LeftOutRef(NamedTuple):
    """A ref of a remote that was not taken in, and the name here that it collides with."""

    ref: str
    other: str


def find_collision(state: RefState | None, updates: Sequence[RefMove]) -> InvalidNameError | None:
    """Return the reason to refuse updates that would make a new name collide with another of the remote."""
    if not any(update.old is None for update in updates):
        return None
    existing = [] if state is None else [("branch", name) for name in state.branches] + [("tag", n) for n in state.tags]
    gone = {tuple(update.ref) for update in updates if update.new is None}
    taken = {(kind, fold_name(name)): name for kind, name in existing if (kind, name) not in gone}
    for update in updates:
        kind, name = update.ref
        if update.old is not None or update.new is None:
            continue
        other = taken.setdefault((kind, fold_name(name)), name)
        if other != name:
            return InvalidNameError(
                f"{kind} {name!r}: the remote has {other!r}, which differs only in case or accents' form, and no clone "
                f"could hold both; choose another name (or delete {other!r} there first)"
            )
    return None


def leave_out_colliding(refs: RefStore, moves: Iterable[RefMove]) -> tuple[list[RefMove], list[LeftOutRef]]:
    """Return the moves of refs here that can be made together, deletions first, and the new refs that collide.

    Of two new names that collide, the one that comes first is kept.
    """
    ordered = sorted(moves, key=lambda move: move.new is not None)
    if not any(move.old is None and move.new is not None for move in ordered):
        return ordered, []
    gone = {move.ref for move in ordered if move.new is None}
    existing = [Ref("remote", name) for name in refs.remotes()] + [Ref("tag", name) for name in refs.tags()]
    taken = {(ref.kind, fold_name(ref.name)): ref.name for ref in existing if ref not in gone}
    kept: list[RefMove] = []
    left_out: list[LeftOutRef] = []
    for move in ordered:
        kind, name = move.ref
        is_new = move.old is None and move.new is not None
        other = taken.setdefault((kind, fold_name(name)), name) if is_new else name
        if other == name:
            kept.append(move)
        else:
            left_out.append(_describe(move.ref, other))
    return kept, left_out


def _describe(ref: Ref, other: str) -> LeftOutRef:
    """Return the ref by its name on the remote."""
    if ref.kind != "remote":
        return LeftOutRef(str(ref), other)
    return LeftOutRef(str(Ref("branch", ref.name.partition("/")[2])), other.partition("/")[2])
