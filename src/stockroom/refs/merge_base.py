"""What two commits have in common: ancestry and merge bases, by walks that go no further back than they must.

A walk takes commits by generation, the greatest first, so that each is met after everything that follows it. Clocks
are never asked.
"""

from __future__ import annotations

import heapq
from typing import Final

from stockroom.digest import CommitId
from stockroom.refs.links import FindLink
from stockroom.refs.store import RefStore

_OURS: Final = 1
_THEIRS: Final = 2
_COMMON: Final = _OURS | _THEIRS
_STALE: Final = 4


def is_ancestor(refs: RefStore, ancestor: CommitId, descendant: CommitId) -> bool:
    """Whether `ancestor` is `descendant` or in its history; never so for one that is not in this repository."""
    if ancestor == descendant:
        return True
    if not refs.has_commit(ancestor):
        return False
    return refs.view_links(lambda find: _reaches(find, descendant, ancestor))


def find_merge_bases(refs: RefStore, ours: CommitId, theirs: CommitId) -> list[CommitId]:
    """The best common ancestors of two commits, in order of id: those that no other common ancestor follows.

    A---B---D  ours      the base is B: A is common too, but B follows it. In a criss-cross history, where two
         \\               branches have merged each other, there are several; without common history there are none.
          C---E  theirs
    """
    if ours == theirs:
        return [ours]
    return refs.view_links(lambda find: _paint(find, ours, theirs))


def _reaches(find: FindLink, start: CommitId, goal: CommitId) -> bool:
    least = find(goal).generation
    seen = {start}
    waiting = [start]
    while waiting:
        for parent in find(waiting.pop()).parents:
            if parent == goal:
                return True
            if parent not in seen and find(parent).generation > least:
                seen.add(parent)
                waiting.append(parent)
    return False


def _paint(find: FindLink, ours: CommitId, theirs: CommitId) -> list[CommitId]:
    marks = {ours: _OURS, theirs: _THEIRS}
    queue = [(-find(commit).generation, commit) for commit in (ours, theirs)]
    heapq.heapify(queue)
    fresh = 2  # entries of the queue that are not stale
    bases = []
    while fresh:
        commit = heapq.heappop(queue)[1]
        mark = marks[commit]
        if mark < _STALE:
            fresh -= 1
            if mark == _COMMON:
                bases.append(commit)
                mark |= _STALE
        for parent in find(commit)[1]:
            before = marks.get(parent)
            if before is None:
                marks[parent] = mark
                heapq.heappush(queue, (-find(parent)[0], parent))
                fresh += mark < _STALE
            elif before | mark != before:
                marks[parent] = before | mark
                fresh -= before < _STALE <= mark
    return sorted(bases)
