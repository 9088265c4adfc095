"""One version of a state in a merge: its nodes, and the entries of its leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockroom.content.entries import digest_entry
from stockroom.content.nodes import Leaf, StateNode, TiedLeaf
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, StateRecord
from stockroom.content.structure import Structure, encode_structure
from stockroom.digest import compute_digest
from stockroom.trees import NodeStore, iter_range


@dataclass(frozen=True, slots=True, eq=False)
class StateSide:
    """A state: its structure, and the entries of leaves by the path they are stored under."""

    objects: NodeStore
    structure: Structure
    entries: Mapping[str, bytes]
    metadata: Mapping[str, Any]

    def get_entry(self, path: str) -> bytes:
        """Return the entry of the leaf at `path`, wherever it is stored."""
        return self.entries[self.structure.stored_path(path)]

    def holds_as(self, other: StateSide, at: str, *, through_ties: bool) -> bool:
        """Return whether both sides have the same bytes at `at`; with `through_ties`, those of tied leaves too."""
        for path in self.structure.list_leaves(at):
            if isinstance(self.structure.leaves[path], TiedLeaf):
                if not through_ties:
                    continue
                if self._get_leaf(path) != other._get_leaf(path):
                    return False
            if self.get_entry(path) != other.get_entry(path):
                return False
        return True

    def digest(self, at: str, node: StateNode | None) -> str | None:
        """Return the digest of a leaf's raw bytes, or of all content of a container; None for no node."""
        if node is None:
            return None
        if isinstance(node, Leaf):
            return digest_entry(self.objects, STATE_ENTRIES.decode(self.get_entry(at))).hex()
        entries = map(self.get_entry, self.structure.list_leaves(at))
        return compute_digest(b"".join([encode_structure(node), *entries])).hex()

    def _get_leaf(self, path: str) -> Leaf:
        """Return the leaf at `path`, or the one that it is tied to."""
        return self.structure.leaves[self.structure.origin(path)]


def read_side(snapshot: Snapshot, record: StateRecord) -> StateSide:
    """Return a state as one side of a merge; reads only its metadata."""
    entries = {
        str(path): value.tobytes()
        for paths, values in iter_range(snapshot.open_tree(record))
        for path, value in zip(paths, values, strict=True)
    }
    return StateSide(snapshot.nodes, snapshot.read_structure(record), entries, record.metadata)
