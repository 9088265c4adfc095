"""Walks over the commit graph."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
from stockroom.refs.links import FindLink
from stockroom.refs.merge_base import list_unreached
from stockroom.refs.store import RefStore


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit found on a walk."""

    commit_id: CommitId
    record: CommitRecord


Follow: TypeAlias = Callable[[CommitId, CommitRecord, Sequence[CommitId]], Sequence[CommitId]]
"""Given a commit and its parents on the walk, returns the parents to continue with."""


def iter_log(
    refs: RefStore,
    start: CommitId | Sequence[CommitId],
    *,
    n: int | None = None,
    hidden: Sequence[CommitId] = (),
    follow: Follow | None = None,
    line_by_line: bool = False,
) -> Iterator[LoggedCommit]:
    """Yield the history of `start`, including itself: children before parents, newest first among those, each once.

    Leaves out everything in the history of the commits in `hidden`. `follow` chooses the parents to continue with;
    None takes all. With `line_by_line`, commits of one line of history are not mixed with those of another, as in
    git's topological order. Reads little more than the commits it yields. Clocks can be wrong, so the links of all
    commits of later generations tell whether a commit has children still to come.
    """
    starts = [start] if isinstance(start, bytes) else list(dict.fromkeys(start))
    shallow = refs.shallow()
    chosen = list_unreached(refs, starts, hidden) if hidden else None

    def list_parents(commit: CommitId, all_parents: Sequence[CommitId]) -> list[CommitId]:
        parents = dict.fromkeys(() if commit in shallow else all_parents)
        here = [parent for parent in parents if chosen is None or parent in chosen]
        return here if follow is None else list(follow(commit, refs.get_commit(commit), here))

    tips = [one for one in starts if chosen is None or one in chosen]
    return islice(_walk(refs, tips, list_parents, line_by_line=line_by_line), n)


def sort_parents_first(found: Mapping[CommitId, Sequence[CommitId]]) -> Iterator[CommitId]:
    """Yield the commits of `found`, commit -> parents, each after its parents in `found`."""
    done: set[CommitId] = set()
    for start in found:
        waiting = [start]
        while waiting:
            commit = waiting[-1]
            missing = [parent for parent in found[commit] if parent in found and parent not in done]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if commit not in done:
                done.add(commit)
                yield commit


def iter_history(
    refs: RefStore, starts: Iterable[CommitId], *, skip: Container[CommitId]
) -> Iterator[tuple[CommitId, CommitRecord]]:
    """Yield each commit from `starts` down, as far as history is here, with its record.

    Stops at the commits in `skip`; the caller adds each commit to it as it comes.
    """
    shallow = refs.shallow()
    waiting = list(starts)
    while waiting:
        commit = waiting.pop()
        if commit not in skip:
            record = refs.get_commit(commit)
            yield commit, record
            waiting += () if commit in shallow else record.parent_ids


_ListParents: TypeAlias = Callable[[CommitId, Sequence[CommitId]], list[CommitId]]
"""Given a commit and all its parents, returns the parents to continue with."""


def _walk(
    refs: RefStore, tips: list[CommitId], list_parents: _ListParents, *, line_by_line: bool
) -> Iterator[LoggedCommit]:
    if line_by_line and len(tips) > 1:
        tips = sorted(tips, key=lambda tip: (refs.get_commit(tip).time_ns, tip))
    while len(tips) == 1:
        commit, record = tips[0], refs.get_commit(tips[0])
        tips = list_parents(commit, record.parent_ids)
        yield LoggedCommit(commit, record)
    graph = _Graph(refs, tips, list_parents)
    yield from _sort_by_line(refs, tips, graph) if line_by_line else _sort(refs, tips, graph)


class _Graph:
    """The part of the history that has been looked at: everything of the later generations, from the tips down."""

    def __init__(self, refs: RefStore, tips: Sequence[CommitId], list_parents: _ListParents) -> None:
        self._refs = refs
        self._list_parents = list_parents
        self._waiting: list[tuple[int, CommitId]] = []
        self._met = set(tips)
        self._parents: dict[CommitId, list[CommitId]] = {}
        self._children: Counter[CommitId] = Counter()  # those looked at and not taken
        for tip in tips:
            refs.view_links(lambda find, tip=tip: self._wait(find, tip))  # type: ignore[misc]

    def has_children(self, commit: CommitId) -> bool:
        """Return whether children of a commit are still to be taken."""
        self._refs.view_links(lambda find: self._look_above(find, commit))
        return self._children[commit] > 0

    def take(self, commit: CommitId) -> list[CommitId]:
        """Take a commit, and return its parents on the walk."""
        self._refs.view_links(lambda find: self._look_at(find, commit))
        self._children.subtract(self._parents[commit])
        return self._parents[commit]

    def _look_above(self, find: FindLink, commit: CommitId) -> None:
        generation = find(commit)[0]
        while self._waiting and -self._waiting[0][0] > generation:
            self._look_at(find, heapq.heappop(self._waiting)[1])

    def _look_at(self, find: FindLink, commit: CommitId) -> None:
        if commit in self._parents:
            return
        parents = self._parents[commit] = self._list_parents(commit, find(commit)[1])
        self._children.update(parents)
        for parent in parents:
            if parent not in self._met:
                self._met.add(parent)
                self._wait(find, parent)

    def _wait(self, find: FindLink, commit: CommitId) -> None:
        heapq.heappush(self._waiting, (-find(commit)[0], commit))


def _sort(refs: RefStore, tips: Sequence[CommitId], graph: _Graph) -> Iterator[LoggedCommit]:
    """Yield children before parents; among commits with no children to come, the newest, then the greatest id.

    A commit that still has children is dropped, as the last of them brings it back.
    """
    candidates = [_Candidate(refs.get_commit(tip), tip) for tip in tips]
    heapq.heapify(candidates)
    here = set(tips)
    while candidates:
        candidate = heapq.heappop(candidates)
        here.remove(candidate.commit_id)
        if graph.has_children(candidate.commit_id):
            continue
        parents = graph.take(candidate.commit_id)
        yield LoggedCommit(candidate.commit_id, candidate.record)
        for parent in parents:
            if parent not in here:
                here.add(parent)
                heapq.heappush(candidates, _Candidate(refs.get_commit(parent), parent))


def _sort_by_line(refs: RefStore, tips: Sequence[CommitId], graph: _Graph) -> Iterator[LoggedCommit]:
    """Yield children before parents; after a commit its last parent that has no other children to come.

    Begins with the last of the tips. Only the last entry of a commit counts: it follows the last of its children.
    """
    entries = dict.fromkeys(tips)
    while entries:
        commit_id, _ = entries.popitem()
        if graph.has_children(commit_id):
            continue
        parents = graph.take(commit_id)
        yield LoggedCommit(commit_id, refs.get_commit(commit_id))
        for parent in parents:
            entries.pop(parent, None)
            entries[parent] = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    record: CommitRecord
    commit_id: CommitId

    def __lt__(self, other: _Candidate) -> bool:
        return (self.record.time_ns, self.commit_id) > (other.record.time_ns, other.commit_id)
