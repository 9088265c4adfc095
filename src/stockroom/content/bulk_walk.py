"""A walk that follows the content of many commits at once, level by level. gc and a first push use it.

A history of small commits is mostly nodes and records that are read once. This walk reads them in batches, and takes
from a node only its values: its keys refer to nothing. Nodes match their digests; fsck checks that they are well-formed
too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np

from stockroom.content.recent_leaves import RecentEntries, split_values
from stockroom.content.snapshot import ROOT_FORMAT, decode_record
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.content.walk import RECORDS, OnChunks, OnObjects, Reading, Walk
from stockroom.digest import DIGEST_NBYTES, ObjectDigest
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.trees import NodeCache
from stockroom.trees.node import CHILD_WIDTH, read_values

_Schema: TypeAlias = tuple[int, tuple[int | None, ...]]
"""The size of an element and the shape: what the format of entries follows from."""

_READS_AT_ONCE: Final = 1024


class BulkWalk(Walk):
    """A walk that can also follow many roots at once. It reports the same as one that follows them one by one."""

    def __init__(self, nodes: NodeCache, *, on_chunks: OnChunks, on_objects: OnObjects = lambda _: None) -> None:
        """Start a walk that has followed nothing yet."""
        super().__init__(nodes, on_chunks=on_chunks, on_objects=on_objects)
        self._recent_entries: defaultdict[_Schema, RecentEntries] = defaultdict(RecentEntries)

    def flush(self) -> None:
        """Report the objects and chunks gathered so far."""
        try:
            super().flush()
        except BaseException:
            self._recent_entries.clear()  # its chunks may not have been taken
            raise

    def add_contents(self, roots: Iterable[ObjectDigest]) -> None:
        """Follow all content under some roots.

        Raises `CorruptionError` if anything is missing or damaged. Then everything found counts as reached, but not as
        followed: `add_content`, root by root, finds what is intact beside the damage.
        """
        found: defaultdict[Reading, set[bytes]] = defaultdict(set)
        records: set[bytes] = set()
        try:
            self._follow_roots(roots, found, records)
        except BaseException:
            self._begun |= records.union(*found.values())
            self._recent_entries.clear()  # the values of the last leaf may not have been followed
            raise
        self._followed |= records
        for reading, nodes in found.items():
            self._seen[reading] |= nodes

    def _follow_roots(
        self, roots: Iterable[ObjectDigest], found: defaultdict[Reading, set[bytes]], records: set[bytes]
    ) -> None:
        digests: dict[bytes, None] = {}
        for values in self._iter_leaves(roots, RECORDS, ROOT_FORMAT.value_width, found[RECORDS]):
            digests |= dict.fromkeys(split_values(values, DIGEST_NBYTES))
        formats: dict[_Schema, EntryFormat] = {}
        trees: defaultdict[_Schema, list[bytes]] = defaultdict(list)
        for some in _cut([digest for digest in digests if digest not in self._followed]):
            for digest, data in zip(some, self._nodes.get_objects(some), strict=True):
                record = decode_record(data, where=f"record {digest.hex()[:16]}")
                records.add(digest)
                if isinstance(record, StateRecord):
                    self._tell(ObjectDigest(record.structure))
                if not isinstance(record, ValueRecord):
                    entries = record.entry_format
                    schema = entries.itemsize, entries.shape
                    formats[schema] = entries
                    trees[schema].append(record.root)
            self._add_objects(some)
        for schema, entries in formats.items():
            nodes = found[entries.kind, entries.width]
            self._follow_trees(trees[schema], entries, self._recent_entries[schema], nodes)

    def _follow_trees(
        self, roots: Iterable[bytes], entries: EntryFormat, recent: RecentEntries, found: set[bytes]
    ) -> None:
        """Follow the trees of columns and states whose entries have one format."""
        reading, width, is_inline = (entries.kind, entries.width), entries.width, entries.kind is EntryKind.INLINE
        for values in self._iter_leaves(roots, reading, width, found, with_leaves=not is_inline):
            if not is_inline:
                self._add_values(entries, np.frombuffer(recent.list_fresh(values, width), np.uint8).reshape(-1, width))

    def _iter_leaves(
        self, roots: Iterable[bytes], reading: Reading, width: int, found: set[bytes], *, with_leaves: bool = True
    ) -> Iterator[bytes]:
        """Yield the values of each leaf below some roots that is not seen yet; adds every node to `found`.

        Without `with_leaves`, leaves below other nodes are not read.
        """
        seen, level = self._seen[reading], list(dict.fromkeys(roots))
        while level:
            below: dict[bytes, None] = {}
            for some in _cut([digest for digest in level if digest not in seen and digest not in found]):
                nodes = self._nodes.get_objects(some)
                found.update(some)
                self._add_objects(some)
                for data in nodes:
                    height, values = read_values(data, width)
                    if not height:
                        yield values
                        continue
                    children = [child[:DIGEST_NBYTES] for child in split_values(values, CHILD_WIDTH)]
                    if height == 1 and not with_leaves:
                        unread = [ObjectDigest(leaf) for leaf in children if leaf not in seen and leaf not in found]
                        found.update(unread)
                        self._add_objects(unread)
                    else:
                        below |= dict.fromkeys(children)
            level = list(below)


def _cut(digests: Sequence[bytes]) -> Iterator[list[ObjectDigest]]:
    for start in range(0, len(digests), _READS_AT_ONCE):
        yield [ObjectDigest(digest) for digest in digests[start : start + _READS_AT_ONCE]]
