"""Blame: for each key of a column, metric or model, the commit that last changed it. Reads no sample.

A commit passes the keys that it has unchanged on to its parents, the first one that agrees. Trees are compared, so
equal parts of them are skipped, and the walk ends when no key is left.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, TypeAlias

from stockroom.content.column import ColumnRecord
from stockroom.content.diff import Diff
from stockroom.content.places import Place, find_part, list_records
from stockroom.content.snapshot import ARTIFACT, EXPERIMENT, Record, Snapshot
from stockroom.digest import CommitId
from stockroom.errors import NotFoundError
from stockroom.refs.links import Link
from stockroom.repository.repository import Repository
from stockroom.trees import Key, iter_range

_WHOLE: Final = (ARTIFACT, EXPERIMENT)
"""The shelves whose records have one line, not one for each part."""

_Wanted: TypeAlias = dict[str, set[Key | None]]
"""By path, the keys that are looked for; None for the whole record."""


def blame(repository: Repository, start: CommitId, path: str, limit: int | None = None) -> list[tuple[Place, CommitId]]:
    """Return the places at `path`, in order, each with the last commit that changed it; at most `limit`.

    Raises `NotFoundError` if nothing is there.
    """
    content = repository.open_snapshot(start)
    places = list(islice(_iter_places(content, path), limit))
    if not places:
        raise NotFoundError(f"nothing at {path!r} in commit {start.hex()[:12]}; `stock ls` lists what there is")
    wanted: _Wanted = {}
    for place in places:
        wanted.setdefault(place.path, set()).add(place.key)
    found = _trace(repository, start, wanted)
    return [(place, found[place]) for place in places]


def _trace(repository: Repository, start: CommitId, wanted: _Wanted) -> dict[Place, CommitId]:
    """Return the commit that last changed each place; meets every commit after all its descendants."""
    found: dict[Place, CommitId] = {}
    pending = {start: wanted}
    waiting = [(-_read_link(repository, start)[0], start)]
    while waiting:
        _, commit = heapq.heappop(waiting)
        left = pending.pop(commit)
        for parent in _read_link(repository, commit)[1]:
            same = _take_same(repository, commit, parent, left) if left else {}
            if parent in pending:
                _add(pending[parent], same)
            elif same:
                pending[parent] = same
                heapq.heappush(waiting, (-_read_link(repository, parent)[0], parent))
        found.update({Place(path, key): commit for path, keys in left.items() for key in keys})
    return found


def _add(wanted: _Wanted, more: _Wanted) -> None:
    for path, keys in more.items():
        wanted[path] = wanted[path] | keys if path in wanted else keys


def _read_link(repository: Repository, commit: CommitId) -> Link:
    return repository.refs.view_links(lambda find: find(commit))


def _iter_places(content: Snapshot, path: str) -> Iterator[Place]:
    """Yield the places of one line each: the keys of columns and metrics, the leaves of models, and whole values."""
    records = list_records(content, path)
    if not records:
        part = find_part(content, path)
        yield from () if part is None else _iter_within(content, *part)
    for name, digest in records:
        if name.partition("/")[0] in _WHOLE:
            yield Place(name)
        else:
            yield from (Place(name, key) for key in _iter_keys(content, content.read_record(digest)))


def _iter_within(content: Snapshot, place: Place, record: Record) -> Iterator[Place]:
    """Yield the place itself, or the leaves of a model within it."""
    if isinstance(record, ColumnRecord):
        assert place.key is not None
        if content.open_tree(record).get(place.key) is not None:
            yield place
        return
    structure = content.read_structure(record)
    if str(place.key) in structure.nodes:
        yield from (Place(place.path, leaf) for leaf in structure.list_leaves(str(place.key)))


def _iter_keys(content: Snapshot, record: Record) -> Iterator[Key]:
    if isinstance(record, ColumnRecord):
        for keys, _ in iter_range(content.open_tree(record)):
            yield from keys.tolist() if hasattr(keys, "tolist") else keys
    else:
        yield from content.read_structure(record).leaves


def _take_same(repository: Repository, commit: CommitId, parent: CommitId, left: _Wanted) -> _Wanted:
    """Remove from `left` what a parent has as the commit has it, and return that. Costs what the commit changed."""
    new, old = repository.open_snapshot(commit), repository.open_snapshot(parent)
    diff = Diff(old, new, paths=list(left)) if new.root != old.root else {}
    same: _Wanted = {}
    for path in list(left):
        record = diff.get(path)
        if record is None:
            same[path] = left.pop(path)
        elif record.kind == "changed" and path.partition("/")[0] not in _WHOLE:
            keys = left[path]
            left[path] = {key for key in chain(record.added, record.changed) if key in keys}
            keys -= left[path]
            same[path] = keys
    return same
