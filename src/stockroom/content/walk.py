"""The one place that knows the references of stages, content and records. gc, fsck, du and push all walk here.

    stage -> its base, its content, a merge record -> the other parent, their content
    content -> nodes of its tree -> records
    column, series -> nodes of its tree -> entries
    state (model, artifact, value) -> its structure, nodes of its tree -> entries
    small value -> nothing
    entry -> nothing, a chunk, or a chunk list -> chunks

Memory grows with the metadata, not the samples. Packs may be absent. A commit refers to its content and its parents;
`refs.graph` walks history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from typing import Final, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.entries import as_stored, read_chunk_list
from stockroom.content.merge.unfinished import read_merging
from stockroom.content.recent_leaves import RecentLeaves
from stockroom.content.snapshot import Record, Snapshot, decode_record
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs import Stage
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.trees import Node, NodeCache, Tree, diff_trees, iter_new_nodes
from stockroom.trees.check import check_tree

_CHUNKS_AT_ONCE: Final = 1 << 16
_OBJECTS_AT_ONCE: Final = 1 << 10

OnObjects: TypeAlias = Callable[[Sequence[ObjectDigest]], object]
"""Called with batches of metadata objects."""
OnValues: TypeAlias = Callable[[ColumnRecord | StateRecord, NDArray[np.uint8]], object]
"""Called with the values `(n, width)` of some leaf nodes of a record's tree, before their references are followed."""
OnChunks: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.int64]], object]
"""Called with batches of chunks `(n, 32)` and their lengths `(n,)`."""

Reading: TypeAlias = tuple[EntryKind | None, int]
"""The part of a tree's format that decides the references of its values. Trees that differ in it may share a node."""

RECORDS: Final[Reading] = (None, 0)


class _SetOnTop(set[bytes]):
    """A set that also contains everything in the set `below`, which it never changes."""

    def __init__(self, below: Set[bytes]) -> None:
        super().__init__()
        self._below = below

    def __contains__(self, item: object) -> bool:
        return set.__contains__(self, item) or item in self._below


class Walk:
    """One walk. Following something a second time is free and reports nothing.

    Methods raise `CorruptionError` if something is missing or damaged; the walk can continue elsewhere. Reports are
    complete only after `flush`.
    """

    def __init__(
        self,
        nodes: NodeCache,
        *,
        on_chunks: OnChunks,
        on_objects: OnObjects = lambda _: None,
        on_values: OnValues | None = None,
        after: Walk | None = None,
        once: bool = False,
        tells_again: bool = False,
    ) -> None:
        """Start a walk that has followed nothing yet, or the same as `after`, which then follows nothing more.

        With `once`, nothing is followed a second time, even if that failed half-way. With `tells_again`, every node's
        chunks are reported, although another version of the node had them.
        """
        self._once = once
        self._begun: set[bytes] = set()
        self._nodes = nodes
        self._on_chunks = on_chunks
        self._on_objects = on_objects
        self._on_values = on_values
        self._followed: set[bytes] = set() if after is None else _SetOnTop(after._followed)
        self._seen: defaultdict[Reading, set[bytes]] = defaultdict(set)
        if after is not None:
            self._seen.update({reading: _SetOnTop(seen) for reading, seen in after._seen.items()})
        self._objects: list[ObjectDigest] = []
        self._chunks: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
        self._count = 0
        self._recent = None if tells_again else RecentLeaves()

    def has(self, digest: bytes) -> bool:
        """Return whether the walk has reached an object, though it may have failed below it."""
        return digest in self._followed or digest in self._begun or any(digest in seen for seen in self._seen.values())

    def skip(self, digest: ObjectDigest) -> None:
        """Do not follow a record from now on."""
        self._followed.add(digest)

    def follow_stage(self, stage: Stage) -> tuple[list[CommitId], list[ObjectDigest]]:
        """Return the commits and the content roots that a stage refers to, for the caller to add."""
        commits = [] if stage.base is None else [stage.base]
        if stage.merging is None:
            return commits, [stage.root]
        merging = read_merging(self._nodes, stage.merging)
        self._tell(stage.merging)
        return [*commits, *merging.parents], [stage.root, ObjectDigest(merging.theirs)]

    def add_content(self, root: ObjectDigest, base: ObjectDigest | None = None) -> None:
        """Follow all content under a root; with `base`, skip everything under that root."""
        for path, digest, before in self.iter_records(root, base):
            self.add_record(digest, before, path=path)

    def iter_records(
        self, root: ObjectDigest, base: ObjectDigest | None = None
    ) -> Iterator[tuple[str, ObjectDigest, ObjectDigest | None]]:
        """Yield path and digest of each record under `root` not followed yet, and the digest that `base` has there."""
        for path, digest, before in self._iter_paths(root, base):
            if digest not in self._followed:
                yield path, digest, before

    def add_record(self, digest: ObjectDigest, before: ObjectDigest | None = None, *, path: str = "") -> Record:
        """Follow a record and return it; with `before`, skip everything that record refers to.

        Records at one `path` are taken for versions of one thing, which have most chunks in common.
        """
        record = self._read_record(digest)
        self._begun.add(digest)
        self._add_objects([digest])
        match record:
            case StateRecord():
                self._tell(ObjectDigest(record.structure))
                self._add_tree(record, before, path)
            case ColumnRecord():
                self._add_tree(record, before, path)
            case ValueRecord():
                pass
            case _:
                assert_never(record)
        self._begun.discard(digest)
        self._followed.add(digest)  # not a record that was followed in part
        return record

    def flush(self) -> None:
        """Report the objects and chunks gathered so far."""
        try:
            objects, self._objects = self._objects, []
            if objects:
                self._on_objects(objects)
            if self._count:
                digests, lengths = (np.concatenate(parts) for parts in zip(*self._chunks, strict=True))
                self._chunks, self._count = [], 0
                self._on_chunks(digests, lengths)
        except BaseException:
            if self._recent is not None:
                self._recent.clear()  # its chunks may not have been taken
            raise

    def _iter_paths(
        self, root: ObjectDigest, base: ObjectDigest | None
    ) -> Iterator[tuple[str, ObjectDigest, ObjectDigest | None]]:
        new = Snapshot(self._nodes, root).tree
        if base is None:
            for digest, node in self._check_tree(new, self._seen[RECORDS]):
                self._add_objects([digest])
                if node is not None and not node.level:
                    yield from self._iter_leaf(node)
            return
        old = Snapshot(self._nodes, base).tree
        for batch in iter_new_nodes(new, old, with_values=False):
            self._add_objects(batch.digests)
        for changes in diff_trees(old, new):
            for path in changes.added_keys:
                yield str(path), ObjectDigest(new.get(str(path)) or b""), None
            values = zip(changes.changed_keys, changes.new_values, changes.old_values, strict=True)
            for path, after, before in values:
                yield str(path), ObjectDigest(after.tobytes()), ObjectDigest(before.tobytes())

    def _iter_leaf(self, leaf: Node) -> Iterator[tuple[str, ObjectDigest, None]]:
        """Yield the paths and records of a leaf of a root tree, except those that its previous version has."""
        rows = range(len(leaf)) if self._recent is None else self._recent.list_fresh(RECORDS, leaf).tolist()
        for row in rows:
            yield str(leaf.keys[row]), ObjectDigest(leaf.values[row].tobytes()), None
        if self._recent is not None:
            self._recent.add(RECORDS, leaf)

    def _read_record(self, digest: ObjectDigest) -> Record:
        return decode_record(self._nodes.get_object(digest), where=f"record {digest.hex()[:16]}")

    def _add_tree(self, record: ColumnRecord | StateRecord, before: ObjectDigest | None, path: str) -> None:
        known = None if before is None else self._read_record(before)
        if isinstance(known, ColumnRecord | StateRecord) and known.tree_format == record.tree_format:
            self._add_new_nodes(record, Tree(self._nodes, known.tree_format, ObjectDigest(known.root)))
            return
        entries = record.entry_format
        reading = entries.kind, entries.width
        tree, place = Tree(self._nodes, record.tree_format, ObjectDigest(record.root)), (path, reading)
        is_inline = entries.kind is EntryKind.INLINE and self._on_values is None
        for digest, node in self._check_tree(tree, self._seen[reading], with_leaves=not is_inline):
            self._add_objects([digest])
            if node is not None and not node.level:
                self._add_leaf(record, node, place)

    def _add_new_nodes(self, record: ColumnRecord | StateRecord, base: Tree) -> None:
        tree = Tree(self._nodes, record.tree_format, ObjectDigest(record.root))
        has_references = record.entry_format.kind is not EntryKind.INLINE
        for batch in iter_new_nodes(tree, base, with_values=has_references or self._on_values is not None):
            self._add_objects(batch.digests)
            if self._on_values is not None:
                self._on_values(record, batch.values)
            self._add_values(record.entry_format, batch.values)

    def _add_leaf(self, record: ColumnRecord | StateRecord, leaf: Node, place: Hashable) -> None:
        if self._on_values is not None:
            self._on_values(record, leaf.values)
        entries = record.entry_format
        if entries.kind is EntryKind.INLINE:
            return
        if self._recent is None:
            self._add_values(entries, leaf.values)
            return
        self._add_values(entries, leaf.values[self._recent.list_fresh(place, leaf)])
        self._recent.add(place, leaf)

    def _check_tree(
        self, tree: Tree, seen: set[bytes], *, with_leaves: bool = True
    ) -> Iterator[tuple[ObjectDigest, Node | None]]:
        return check_tree(tree, seen, begun=None if self._once else self._begun, with_leaves=with_leaves)

    def _add_values(self, entries: EntryFormat, values: NDArray[np.uint8]) -> None:
        if not len(values):
            return
        kinds = entries.decode_kinds(values)
        chunks = values[kinds == EntryKind.CHUNK]
        if len(chunks):
            self._add_chunks(entries.slice_digests(chunks), entries.measure(chunks))
        for value in values[kinds == EntryKind.CHUNK_LIST]:
            entry = entries.decode(value.tobytes())
            if entry.payload not in self._followed:
                stored = as_stored(read_chunk_list(self._nodes, entry))
                self._add_chunks(stored.digests, stored.lengths)
                self._tell(ObjectDigest(entry.payload))

    def _add_chunks(self, digests: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        self._chunks.append((digests, lengths))
        self._count += len(digests)
        if self._count >= _CHUNKS_AT_ONCE:
            self.flush()

    def _add_objects(self, digests: Sequence[ObjectDigest]) -> None:
        self._objects += digests
        if len(self._objects) >= _OBJECTS_AT_ONCE:
            self.flush()

    def _tell(self, digest: ObjectDigest) -> None:
        """Report an object that is not a node or record."""
        self._add_objects([digest])
        self._followed.add(digest)
