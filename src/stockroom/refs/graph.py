"""Walks over the commit graph."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
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
    git's topological order. Reads only the commits it yields as long as history is linear. At a fork, all the rest is
    read at once: clocks can be wrong, so only the whole graph shows which commits have children still to come.
    """
    starts = [start] if isinstance(start, bytes) else list(dict.fromkeys(start))
    shallow = refs.shallow()
    chosen = list_unreached(refs, starts, hidden) if hidden else None

    def list_parents(commit: CommitId, record: CommitRecord) -> list[CommitId]:
        parents = dict.fromkeys(() if commit in shallow else record.parent_ids)
        here = [parent for parent in parents if chosen is None or parent in chosen]
        return here if follow is None else list(follow(commit, record, here))

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


_ListParents: TypeAlias = Callable[[CommitId, CommitRecord], list[CommitId]]


def _walk(
    refs: RefStore, tips: list[CommitId], list_parents: _ListParents, *, line_by_line: bool
) -> Iterator[LoggedCommit]:
    while len(tips) == 1:
        commit, record = tips[0], refs.get_commit(tips[0])
        tips = list_parents(commit, record)
        yield LoggedCommit(commit, record)
    sort = _sort_by_line if line_by_line else _sort
    yield from sort(*_read_history(refs, tips, list_parents))


_History: TypeAlias = dict[CommitId, CommitRecord]
_Parents: TypeAlias = dict[CommitId, list[CommitId]]


def _read_history(refs: RefStore, starts: list[CommitId], list_parents: _ListParents) -> tuple[_History, _Parents]:
    """Return every commit on the walk from `starts`, and the parents it continues with, by id."""
    history: _History = {}
    parents: _Parents = {}
    level = starts
    while level:
        history.update(zip(level, refs.get_commits(level), strict=True))
        parents.update((commit, list_parents(commit, history[commit])) for commit in level)
        below = dict.fromkeys(parent for commit in level for parent in parents[commit])
        level = [parent for parent in below if parent not in history]
    return history, parents


def _sort(history: _History, parents: _Parents) -> Iterator[LoggedCommit]:
    """Yield children before parents; among commits with no children to come, the newest, then the greatest id."""
    children = _count_children(history, parents)
    ready = [_Candidate(history[c].time_ns, c) for c, count in children.items() if not count]
    heapq.heapify(ready)
    while ready:
        commit_id = heapq.heappop(ready).commit_id
        yield LoggedCommit(commit_id, history[commit_id])
        for parent in parents[commit_id]:
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, _Candidate(history[parent].time_ns, parent))


def _sort_by_line(history: _History, parents: _Parents) -> Iterator[LoggedCommit]:
    """Yield children before parents; after a commit its last parent that has no other children to come."""
    children = _count_children(history, parents)
    ready = sorted((c for c, count in children.items() if not count), key=lambda c: (history[c].time_ns, c))
    while ready:
        commit_id = ready.pop()
        yield LoggedCommit(commit_id, history[commit_id])
        for parent in parents[commit_id]:
            children[parent] -= 1
            if not children[parent]:
                ready.append(parent)


def _count_children(history: _History, parents: _Parents) -> dict[CommitId, int]:
    children = dict.fromkeys(history, 0)
    for above in parents.values():
        for parent in above:
            children[parent] += 1
    return children


@dataclass(frozen=True, slots=True)
class _Candidate:
    time_ns: int
    commit_id: CommitId

    def __lt__(self, other: _Candidate) -> bool:
        return (self.time_ns, self.commit_id) > (other.time_ns, other.commit_id)
