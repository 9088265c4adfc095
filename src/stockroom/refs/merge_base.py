"""Ancestry and merge bases of commits, by walks that go no further back than they must.

A walk takes commits by generation, the greatest first: it meets each commit after all its descendants. It uses no
clocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from stockroom.digest import CommitId
from stockroom.refs.links import FindLink
from stockroom.refs.store import RefStore

_OURS: Final = 1
_THEIRS: Final = 2
_COMMON: Final = _OURS | _THEIRS
_STALE: Final = 4


def is_ancestor(refs: RefStore, ancestor: CommitId, descendant: CommitId) -> bool:
    """Return whether `ancestor` is `descendant` or in its history; False if `ancestor` is not in this repository."""
    if ancestor == descendant:
        return True
    if not refs.has_commit(ancestor):
        return False
    return refs.view_links(lambda find: _reaches(find, descendant, ancestor))


def list_merge_bases(refs: RefStore, ours: CommitId | Sequence[CommitId], theirs: CommitId) -> list[CommitId]:
    """Return the best common ancestors of two commits, in order of id: those that no other common ancestor follows.

    A---B---D  ours      the base is B: A is common too, but B follows it. In a criss-cross history, where two
         \\               branches have merged each other, there are several; without common history there are none.
          C---E  theirs

    Several commits as `ours` count as one that has merged them all.
    """
    our_commits = [ours] if isinstance(ours, bytes) else list(ours)
    if theirs in our_commits:
        return [theirs]
    return refs.view_links(
        lambda find: sorted(commit for commit, sides in _paint(find, our_commits, theirs) if sides == _COMMON)
    )


class Divergence(NamedTuple):
    """How many commits only `ahead`'s side has, and how many only the other; at least so many, unless `is_whole`."""

    ahead: int
    behind: int
    is_whole: bool = True


def count_divergence(refs: RefStore, ours: CommitId, theirs: CommitId, *, limit: int = 10_000) -> Divergence:
    """Return how far `ours` is ahead of `theirs` and behind it; looks at no more than `limit` commits."""
    if ours == theirs:
        return Divergence(0, 0)
    return refs.view_links(lambda find: _count(find, ours, theirs, limit))


def list_unreached(refs: RefStore, starts: Sequence[CommitId], hidden: Sequence[CommitId]) -> set[CommitId]:
    """Return the commits in the history of `starts` that are not in the history of `hidden`."""
    return refs.view_links(lambda find: _subtract(find, starts, hidden))


def _subtract(find: FindLink, starts: Sequence[CommitId], hidden: Sequence[CommitId]) -> set[CommitId]:
    is_hidden = dict.fromkeys(starts, False) | dict.fromkeys(hidden, True)
    queue = [(-find(commit)[0], commit) for commit in is_hidden]
    heapq.heapify(queue)
    found: set[CommitId] = set()
    wanted = sum(1 for hides in is_hidden.values() if not hides)  # entries of the queue that are not hidden
    while wanted:
        _, commit = heapq.heappop(queue)
        hides = is_hidden[commit]  # final: all its descendants have been met
        if not hides:
            wanted -= 1
            found.add(commit)
        for parent in find(commit)[1]:
            before = is_hidden.get(parent)
            if before is None:
                is_hidden[parent] = hides
                heapq.heappush(queue, (-find(parent)[0], parent))
                wanted += not hides
            elif hides and not before:
                is_hidden[parent] = True
                wanted -= 1
    return found


def _reaches(find: FindLink, start: CommitId, goal: CommitId) -> bool:
    least = find(goal)[0]
    seen = {start}
    waiting = [find(start)[1]]
    while waiting:
        for parent in waiting.pop():
            if parent == goal:
                return True
            if parent not in seen:
                seen.add(parent)
                generation, above = find(parent)
                if generation > least:
                    waiting.append(above)
    return False


class _TooFarError(Exception):
    """The walk has reached its limit."""


def _count(find: FindLink, ours: CommitId, theirs: CommitId, limit: int) -> Divergence:
    counts = {_OURS: 0, _THEIRS: 0, _COMMON: 0}
    looked_at = iter(range(limit))

    def look_at(commit: CommitId) -> tuple[int, tuple[CommitId, ...]]:
        if next(looked_at, None) is None:
            raise _TooFarError
        return find(commit)

    is_whole = False
    with suppress(_TooFarError):
        for _, sides in _paint(look_at, [ours], theirs):
            counts[sides] += 1
        is_whole = True
    return Divergence(counts[_OURS], counts[_THEIRS], is_whole)


def _paint(find: FindLink, ours: Sequence[CommitId], theirs: CommitId) -> Iterator[tuple[CommitId, int]]:
    """Yield commits with the sides that reach them, down to the bases, which both sides reach.

    It marks every commit with the sides that reach it, and everything that a base reaches as stale.
    """
    flags = dict.fromkeys(ours, _OURS) | {theirs: _THEIRS}
    queue = []
    for commit in flags:
        generation, parents = find(commit)
        queue.append((-generation, commit, parents))
    heapq.heapify(queue)
    fresh = len(queue)  # entries of the queue that are not stale
    while fresh:
        _, commit, parents = heapq.heappop(queue)
        flag = flags.pop(commit)  # all its descendants have been met: nothing will mark it again
        if flag < _STALE:
            fresh -= 1
            yield commit, flag
            if flag == _COMMON:
                flag |= _STALE
        for parent in parents:
            before = flags.get(parent)
            if before is None:
                flags[parent] = flag
                generation, above = find(parent)
                heapq.heappush(queue, (-generation, parent, above))
                fresh += flag < _STALE
            elif before | flag != before:
                flags[parent] = before | flag
                fresh -= before < _STALE <= flag
