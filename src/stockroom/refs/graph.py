"""Walks over the commit graph."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from stockroom.digest import CommitId
from stockroom.refs.commit import CommitRecord
from stockroom.refs.store import RefStore


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit found on a walk."""

    commit_id: CommitId
    record: CommitRecord


def iter_log(refs: RefStore, start: CommitId, *, n: int | None = None) -> Iterator[LoggedCommit]:
    """Yield the history of `start`, including itself: children before parents, newest first among those, each once.

    Reads only the commits it yields as long as history is linear. At a fork, all the rest is read at once: clocks can
    be wrong, so only the whole graph shows which commits have children still to come.
    """
    return islice(_walk(refs, start), n)


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


def _walk(refs: RefStore, start: CommitId) -> Iterator[LoggedCommit]:
    tip: CommitId | None = start
    shallow = refs.shallow()
    while tip is not None:
        record = refs.get_commit(tip)
        yield LoggedCommit(tip, record)
        parents = dict.fromkeys(record.parent_ids if tip not in shallow else ())
        if len(parents) > 1:
            yield from _sort(_read_history(refs, list(parents), shallow))
            return
        tip = next(iter(parents), None)


def _read_history(
    refs: RefStore, starts: Sequence[CommitId], shallow: frozenset[CommitId]
) -> dict[CommitId, CommitRecord]:
    """Return every commit reachable from `starts`, by id."""
    history: dict[CommitId, CommitRecord] = {}
    level = list(starts)
    while level:
        history.update(zip(level, refs.get_commits(level), strict=True))
        known = [commit_id for commit_id in level if commit_id not in shallow]
        parents = {p: None for commit_id in known for p in history[commit_id].parent_ids}
        level = [parent for parent in parents if parent not in history]
    return history


def _sort(history: dict[CommitId, CommitRecord]) -> Iterator[LoggedCommit]:
    """Yield children before parents; among commits with no children to come, the newest, then the greatest id."""
    children = dict.fromkeys(history, 0)
    for record in history.values():
        for parent in set(record.parent_ids) & history.keys():  # except those of a shallow commit
            children[parent] += 1
    ready = [_Candidate(history[c].time_ns, c) for c, count in children.items() if not count]
    heapq.heapify(ready)
    while ready:
        commit_id = heapq.heappop(ready).commit_id
        yield LoggedCommit(commit_id, history[commit_id])
        for parent in set(history[commit_id].parent_ids) & history.keys():
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, _Candidate(history[parent].time_ns, parent))


@dataclass(frozen=True, slots=True)
class _Candidate:
    time_ns: int
    commit_id: CommitId

    def __lt__(self, other: _Candidate) -> bool:
        return (self.time_ns, self.commit_id) > (other.time_ns, other.commit_id)
