"""One version of a nested state as a merge takes it: its nodes, and what their leaves' bytes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stockroom.content.entry_digest import digest_entry
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, StateRecord
from stockroom.content.structure import (
    Constant,
    DictNode,
    Leaf,
    ListNode,
    Node,
    StridedLeaf,
    TiedLeaf,
    TupleNode,
    encode_structure,
    join_path,
    list_keys,
    list_nodes,
)
from stockroom.digest import compute_digest
from stockroom.trees import NodeStore, iter_range


@dataclass(frozen=True, slots=True, eq=False)
class StateSide:
    """A state: its top node, every leaf by path, and the entries of leaves by the path they are stored under."""

    objects: NodeStore
    top: Node
    leaves: Mapping[str, Leaf]
    entries: Mapping[str, bytes]
    metadata: Mapping[str, Any]

    def find_form(self, leaf: Leaf) -> Leaf:
        """The leaf itself, or that which it is tied to."""
        return self.leaves[leaf.path] if isinstance(leaf, TiedLeaf) else leaf

    def find_entry(self, path: str, leaf: Leaf) -> bytes:
        """The entry of a leaf's bytes, wherever they are stored."""
        form = self.find_form(leaf)
        if isinstance(form, StridedLeaf):
            return self.entries[form.base]
        return self.entries[leaf.path if isinstance(leaf, TiedLeaf) else path]

    def holds_as(self, other: StateSide, at: str, node: Node, *, through_ties: bool) -> bool:
        """Whether `node`, which both have at `at`, means the same bytes in both; `through_ties` of tied leaves too."""
        for path, leaf in iter_leaves_at(node, at):
            if isinstance(leaf, TiedLeaf):
                if not through_ties:
                    continue
                if self.find_form(leaf) != other.find_form(leaf):
                    return False
            if self.find_entry(path, leaf) != other.find_entry(path, leaf):
                return False
        return True

    def digest(self, at: str, node: Node | None) -> str | None:
        """The digest of a leaf's raw bytes; of a container that of all in it. None for nothing."""
        if node is None:
            return None
        if isinstance(node, Leaf):
            return digest_entry(self.objects, STATE_ENTRIES, self.find_entry(at, node))
        entries = [self.find_entry(path, leaf) for path, leaf in iter_leaves_at(node, at)]
        return compute_digest(b"".join([encode_structure(node), *entries])).hex()


def read_side(snapshot: Snapshot, record: StateRecord) -> StateSide:
    """A state as a merge takes it; reads its metadata only."""
    entries = {
        str(path): value.tobytes()
        for paths, values in iter_range(snapshot.open_tree(record))
        for path, value in zip(paths, values, strict=True)
    }
    structure = snapshot.read_structure(record)
    return StateSide(snapshot.nodes, structure.top, structure.leaves, entries, record.metadata)


def iter_leaves_at(node: Node, at: str) -> Iterator[tuple[str, Leaf]]:
    """The leaves in a node that is found at `at`, with their paths."""
    if isinstance(node, DictNode | ListNode | TupleNode):
        for key, part in zip(list_keys(node), list_nodes(node), strict=True):
            yield from iter_leaves_at(part, join_path(at, key))
    elif not isinstance(node, Constant):
        yield at, node
