"""The part of a history that a shallow clone has: the commits to keep and where to cut, also when its depth changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError

FindParents = Callable[[CommitId], Sequence[CommitId] | None]
"""Returns the parents of a commit, or None if there is no record of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A change of depth: `tips` commits from each tip, or `more` behind those that are cut now; neither: all."""

    tips: int | None = None
    more: int | None = None


@dataclass(slots=True)
class HistoryPart:
    """Commits to keep, and those of them whose parents are left out."""

    kept: dict[CommitId, None] = field(default_factory=dict)
    cut: set[CommitId] = field(default_factory=set)


def choose_depth(*, depth: int | None = None, deepen: int | None = None, unshallow: bool = False) -> Depth | None:
    """Return the change of depth that one of git's options asks for; None without any."""
    if sum((depth is not None, deepen is not None, unshallow)) > 1:
        raise InvalidInputError("depth, deepen and unshallow exclude each other: give one")
    for name, count in (("depth", depth), ("deepen", deepen)):
        if count is not None and count < 1:
            raise InvalidInputError(f"expected a {name} of at least 1, found {count}")
    if depth is None and deepen is None and not unshallow:
        return None
    return Depth(tips=depth, more=deepen)


def select_history(
    starts: Iterable[CommitId],
    find_parents: FindParents,
    *,
    levels: int | None = None,
    beyond: Callable[[CommitId], bool] = lambda _: False,
) -> HistoryPart:
    """Return the history of `starts`, as many `levels` of it; without the commits `beyond` and what is behind them."""
    part = HistoryPart()
    level, left = [start for start in starts if find_parents(start) is not None and not beyond(start)], levels
    while level:
        left = None if left is None else left - 1
        part.kept.update(dict.fromkeys(level))
        below: dict[CommitId, None] = {}
        for commit in level:
            parents = find_parents(commit) or ()
            if any(find_parents(parent) is None for parent in parents) or (left == 0 and parents):
                part.cut.add(commit)
            elif left != 0:
                below.update(dict.fromkeys(parent for parent in parents if not beyond(parent)))
        level = [commit for commit in below if commit not in part.kept]
    return part


def change_depth(
    depth: Depth, tips: Sequence[CommitId], cut: Collection[CommitId], find_parents: FindParents
) -> HistoryPart:
    """Return the part of the history that a clone, now cut at `cut`, has after a change of depth."""
    if depth.tips is not None:
        return select_history(tips, find_parents, levels=depth.tips)
    return select_history(cut, find_parents, levels=None if depth.more is None else depth.more + 1)
