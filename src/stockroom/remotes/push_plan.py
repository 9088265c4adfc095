"""What a push must send: all that new commits lead to and that the remote does not have yet."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.digest import DIGEST_NBYTES, CommitId, ObjectDigest, PackDigest
from stockroom.refs import RefStore, sort_parents_first
from stockroom.repository.repository import Repository
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.entry import EntryKind
from stockroom.trees import DiffBatch, diff_trees, iter_new_nodes, iter_range


@dataclass(slots=True)
class PushContents:
    """Commits, parents first; metadata objects; and the packs that hold what they newly refer to."""

    commits: list[CommitId] = field(default_factory=list)
    objects: dict[ObjectDigest, None] = field(default_factory=dict)
    packs: dict[PackDigest, None] = field(default_factory=dict)


def plan_push(repository: Repository, tips: Sequence[CommitId], known: Collection[CommitId]) -> PushContents:
    """What leads from `tips` to what the remote has: `known` commits and all behind them."""
    contents = PushContents()
    parents = list_new_commits(repository.refs, tips, known)
    difference = _Difference(repository, contents)
    for commit, base in parents.items():
        contents.commits.append(commit)
        difference.add_commit(commit, base)
    return contents


def list_new_commits(
    refs: RefStore, tips: Sequence[CommitId], known: Collection[CommitId]
) -> dict[CommitId, CommitId | None]:
    """The commits from `tips` down that are not behind `known`, parents first, each with its first parent.

    Newest first, from both sides at once, until only what is behind `known` is left: so cost follows what is new. Where
    clocks were wrong some commits too many may be given.
    """
    shallow = refs.shallow()
    is_known = dict.fromkeys(tips, False) | dict.fromkeys(known, True)
    found: dict[CommitId, tuple[CommitId, ...]] = {}
    waiting: list[tuple[int, CommitId]] = []

    def visit(commit: CommitId) -> None:
        record = refs.get_commit(commit)
        found[commit] = () if commit in shallow else record.parent_ids
        heapq.heappush(waiting, (-record.time_ns, commit))

    for commit in is_known:
        visit(commit)
    while any(not is_known[commit] for _, commit in waiting):
        _, commit = heapq.heappop(waiting)
        for parent in found[commit]:
            if parent not in found:
                is_known[parent] = is_known[commit]
                visit(parent)
            elif is_known[commit] and not is_known[parent]:
                _mark_known(parent, found, is_known)
    new = {commit: parents for commit, parents in found.items() if not is_known[commit]}
    return {commit: next(iter(new[commit]), None) for commit in sort_parents_first(new)}


def _mark_known(
    start: CommitId, found: Mapping[CommitId, tuple[CommitId, ...]], is_known: dict[CommitId, bool]
) -> None:
    """Mark a commit that was taken for new, and all behind it that were."""
    waiting = [start]
    while waiting:
        commit = waiting.pop()
        is_known[commit] = True
        waiting += [parent for parent in found.get(commit, ()) if not is_known.get(parent, True)]


class _Difference:
    """Adds to `contents` what commits have and those before them do not."""

    def __init__(self, repository: Repository, contents: PushContents) -> None:
        self._repository = repository
        self._contents = contents
        self._leaving = repository.marks.read_leaving()

    def add_commit(self, commit: CommitId, base: CommitId | None) -> None:
        repository = self._repository
        new = repository.open_snapshot(commit)
        old = None if base is None else repository.open_snapshot(base)
        for batch in iter_new_nodes(new.tree, None if old is None else old.tree):
            self._add_objects(batch.digests)
        for record, before in _iter_changed_records(new, old):
            self._add_record(new, record, before)

    def _add_record(self, snapshot: Snapshot, digest: ObjectDigest, before: ObjectDigest | None) -> None:
        self._add_objects([digest])
        record = snapshot.read_record(digest)
        if isinstance(record, ValueRecord):
            return
        self._add_objects(record.objects)
        base = None if before is None else snapshot.read_record(before)
        is_alike = base is not None and not isinstance(base, ValueRecord) and base.tree_format == record.tree_format
        base_tree = snapshot.open_tree(base) if is_alike else None  # type: ignore[arg-type]
        for batch in iter_new_nodes(snapshot.open_tree(record), base_tree):
            self._add_objects(batch.digests)
            self._add_chunks(list_chunks(self._repository, record, batch.values, self._contents.objects))

    def _add_objects(self, digests: Sequence[ObjectDigest]) -> None:
        self._contents.objects.update(dict.fromkeys(digests))

    def _add_chunks(self, digests: NDArray[np.uint8]) -> None:
        if len(digests):
            packs = self._repository.tensors.find_packs(digests, avoid=self._leaving)
            self._contents.packs.update(dict.fromkeys(packs))


def list_chunks(
    repository: Repository,
    record: ColumnRecord | StateRecord,
    values: NDArray[np.uint8],
    objects: dict[ObjectDigest, None] | None = None,
) -> NDArray[np.uint8]:
    """Digests `(n, 32)` of the chunks behind values of a record's tree; chunk lists met are added to `objects`."""
    entries = record.entry_format
    kinds = entries.decode_kinds(values)
    chunks = [entries.slice_digests(values[kinds == EntryKind.CHUNK])]
    for value in values[kinds == EntryKind.CHUNK_LIST]:
        digest = ObjectDigest(entries.decode(value.tobytes()).payload)
        if objects is not None:
            objects[digest] = None
        chunks.append(decode_chunk_list(repository.objects.get_object(digest), where=digest.hex()).digests)
    return np.concatenate(chunks) if entries.width >= DIGEST_NBYTES else np.empty((0, DIGEST_NBYTES), np.uint8)


def _iter_changed_records(new: Snapshot, old: Snapshot | None) -> Iterator[tuple[ObjectDigest, ObjectDigest | None]]:
    """The records of `new` that `old` does not have under the same path, each with the one that it has there."""
    if old is None:
        for _, values in iter_range(new.tree):
            for value in values:
                yield ObjectDigest(value.tobytes()), None
        return
    for batch in diff_trees(old.tree, new.tree):
        yield from _iter_batch(new, batch)


def _iter_batch(new: Snapshot, batch: DiffBatch) -> Iterator[tuple[ObjectDigest, ObjectDigest | None]]:
    for key in batch.added_keys:
        value = new.tree.get(str(key))
        assert value is not None
        yield ObjectDigest(value), None
    for before, after in zip(batch.old_values, batch.new_values, strict=True):
        yield ObjectDigest(after.tobytes()), ObjectDigest(before.tobytes())
