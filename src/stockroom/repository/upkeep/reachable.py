"""What commits and stages lead to: commits, objects, and rows of packs. Reads metadata only; packs need not be here.

Memory follows the metadata, not the samples: a digest for each object, a byte for each row of a pack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.merge.unfinished import read_merging
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.digest import DIGEST_NBYTES, CommitId, ObjectDigest, PackDigest
from stockroom.refs import Stage
from stockroom.repository.repository import Repository
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.store.index.location_table import ROW_BITS, ROW_MASK
from stockroom.store.tensor_store import TensorStore
from stockroom.trees.check import check_tree

_CHUNKS_AT_ONCE: Final = 1 << 16

Reading: TypeAlias = tuple[EntryKind | None, int]
"""How values are read. One node may stand in trees that read its values in different ways."""


class Reachable:
    """Grows with every commit and stage added to it; what is in it already costs nothing.

    `CorruptionError` for whatever is missing or damaged on the way.
    """

    def __init__(self, repository: Repository) -> None:
        self.commits: set[CommitId] = set()
        self._repository = repository
        self._shallow = repository.refs.shallow()
        self._records: set[bytes] = set()
        self._nodes: dict[Reading, set[bytes]] = defaultdict(set)
        self._rows = LiveRows(repository.tensors)

    def add_commits(self, commits: Iterable[CommitId]) -> None:
        """Add commits and all their history, as far as it is here."""
        waiting = [commit for commit in commits if commit not in self.commits]
        while waiting:
            commit = waiting.pop()
            if commit in self.commits:
                continue
            record = self._repository.refs.get_commit(commit)
            self._add_content(record.tree_digest)
            self.commits.add(commit)
            if commit not in self._shallow:
                waiting += [parent for parent in record.parent_ids if parent not in self.commits]
        self._rows.settle()

    def add_stage(self, stage: Stage) -> None:
        """Add a stage, what it stands on, and what is being merged into it."""
        self.add_commits([] if stage.base is None else [stage.base])
        self._add_content(stage.root)
        if stage.merging is not None:
            self._records.add(stage.merging)
            merging = read_merging(self._repository.objects, stage.merging)
            self.add_commits(merging.parents)
            self._add_content(ObjectDigest(merging.theirs))
        self._rows.settle()

    def has_object(self, digest: bytes) -> bool:
        """Whether something leads to an object."""
        return digest in self._records or any(digest in nodes for nodes in self._nodes.values())

    def find_live(self, number: int) -> NDArray[np.bool_] | None:
        """`(rows,)`: which rows of a pack something leads to; None if there is none."""
        return self._rows.find(number)

    def _add_content(self, root: ObjectDigest) -> None:
        snapshot = Snapshot(self._repository.nodes, root)
        for digests in check_tree(snapshot.tree, self._nodes[(None, DIGEST_NBYTES)]):
            for digest in digests:
                self._add_record(snapshot, ObjectDigest(digest.tobytes()))

    def _add_record(self, snapshot: Snapshot, digest: ObjectDigest) -> None:
        if digest in self._records:
            return
        record = snapshot.read_record(digest)
        if not isinstance(record, ValueRecord):
            self._records.update(record.objects)
            self._add_tree(snapshot, record)
        self._records.add(digest)

    def _add_tree(self, snapshot: Snapshot, record: ColumnRecord | StateRecord) -> None:
        entries = record.entry_format
        for values in check_tree(snapshot.open_tree(record), self._nodes[read_by(entries)]):
            for digests in self._iter_chunks(entries, values):
                self._rows.add(digests)

    def _iter_chunks(self, entries: EntryFormat, values: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        kinds = entries.decode_kinds(values)
        chunks = values[kinds == EntryKind.CHUNK]
        if len(chunks):
            yield entries.slice_digests(chunks)
        for value in values[kinds == EntryKind.CHUNK_LIST]:
            digest = ObjectDigest(entries.decode(value.tobytes()).payload)
            if digest not in self._records:
                self._records.add(digest)
                encoded = self._repository.objects.get_object(digest)
                yield decode_chunk_list(encoded, where=digest.hex()).digests


def count_needed(repository: Repository, packs: Collection[PackDigest]) -> int:
    """How many of `packs` branches, tags and staged changes of this repository lead to; its remote's own refs aside."""
    reach = Reachable(repository)
    reach.add_commits([*repository.refs.branches().values(), *repository.refs.tags().values()])
    for stage in repository.refs.stages().values():
        reach.add_stage(stage)
    known = repository.tensors.catalog.read_packs().items()
    return sum(1 for number, digest in known if digest in packs and reach.find_live(number) is not None)


class LiveRows:
    """Which rows of which packs hold chunks that were added. All copies of a chunk count."""

    def __init__(self, tensors: TensorStore) -> None:
        self._tensors = tensors
        self._rows: dict[int, NDArray[np.bool_]] = {}
        self._waiting: list[NDArray[np.uint8]] = []
        self._count = 0

    def add(self, digests: NDArray[np.uint8]) -> None:
        """Take chunks, to be looked up many at a time."""
        self._waiting.append(digests)
        self._count += len(digests)
        if self._count >= _CHUNKS_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Look up what was added; `LostChunksError` for a chunk that is in no pack."""
        if not self._count:
            return
        digests = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        is_found = np.zeros(len(digests), bool)
        for positions, locations in self._tensors.iter_copies(digests):
            is_found[positions] = True
            self._mark(locations)
        if not is_found.all():
            self._mark(self._tensors.locate(digests[~is_found]))  # raises for what is nowhere

    def find(self, number: int) -> NDArray[np.bool_] | None:
        """`(rows,)` of a pack; None if no chunk is in it."""
        return self._rows.get(number)

    def _mark(self, locations: NDArray[np.uint64]) -> None:
        numbers, rows = (locations >> ROW_BITS).astype(np.int64), (locations & ROW_MASK).astype(np.int64)
        for number in np.unique(numbers).tolist():
            live = self._rows.get(number)
            if live is None:
                live = self._rows[number] = np.zeros(self._tensors.cache.get(number).rows, bool)
            live[rows[numbers == number]] = True


def read_by(entries: EntryFormat) -> Reading:
    """How an entry format reads values, as far as it decides what they lead to."""
    return entries.kind, entries.width
