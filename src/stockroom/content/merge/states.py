"""Three-way merge of nested states, leaf by leaf: one side may have trained a model's head and the other its body.

Dicts are merged by key. Lists and tuples are merged by position, if neither side changed the length. The order is
ours, with their additions last. A leaf comes with its side's bytes. If ties and shared memory of the two sides do not
fit together, the whole state is in conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from stockroom.content.merge.conflict import METADATA, Arbiter, Conflict, Side, name_kind
from stockroom.content.merge.mappings import merge_mappings, name_key
from stockroom.content.merge.state_side import StateSide
from stockroom.content.merge.three_way import find_side
from stockroom.content.nodes import (
    ArrayLeaf,
    DictNode,
    ListNode,
    StateKey,
    StateNode,
    TiedLeaf,
    TupleNode,
    encode_key,
    join_path,
    list_keys,
    list_nodes,
)
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_TREE, StateRecord
from stockroom.content.structure import check_structure, encode_structure
from stockroom.digest import ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.refs import ObjectStore
from stockroom.trees import Tree

Average: TypeAlias = Callable[[ArrayLeaf, bytes, bytes], bytes]
"""Makes the entry of the mean of two like tensors from their entries."""

Nodes: TypeAlias = tuple[StateNode | None, StateNode | None, StateNode | None]
"""The nodes of base, ours and theirs at one path."""

_Here: TypeAlias = tuple[StateNode | None, StateSide | None]


@dataclass(frozen=True, slots=True)
class MergedState:
    """The result of merging a state."""

    top: StateNode
    entries: dict[str, bytes]
    metadata: dict[str, Any]

    def write(self, snapshot: Snapshot, objects: ObjectStore) -> StateRecord:
        """Put the structure and the tree, and return the record that refers to both."""
        values = np.frombuffer(b"".join(self.entries.values()), np.uint8)
        rows = values.reshape(len(self.entries), STATE_TREE.value_width)
        tree = Tree.build(snapshot.nodes, STATE_TREE, keys=list(self.entries), values=rows)
        structure: ObjectDigest = objects.put_object(encode_structure(self.top))
        return StateRecord(structure, tree.root, self.metadata)


@dataclass(slots=True)
class StateMerge:
    """The merge of one state at `path`.

    With `only`, the merge is limited to these paths within the state: they are decided without a base, and everything
    else stays as ours. `disputed` are the paths at which `base` is not common to both sides.
    """

    path: str
    base: StateSide | None
    ours: StateSide
    theirs: StateSide
    arbiter: Arbiter
    average: Average | None = None
    only: frozenset[str] | None = None
    disputed: frozenset[str] = frozenset()
    _entries: dict[str, bytes] = field(default_factory=dict)
    _is_broken: bool = False

    def run(self) -> MergedState | None:
        """Return the merged state, or None if the sides do not fit together."""
        base = None if self.base is None else self.base.structure.top
        top = self._merge("", (base, self.ours.structure.top, self.theirs.structure.top))
        if top is None or self._is_broken:
            return None
        try:
            structure = check_structure(top, where=self.path)
        except MalformedRecordError:  # ties and shared memory of both sides do not fit together
            return None
        metadata = dict(self.ours.metadata) if self.only is not None else self._merge_metadata()
        return MergedState(top, {path: self._entries[path] for path in structure.stored}, metadata)

    def _merge(self, at: str, nodes: Nodes) -> StateNode | None:
        side = self._find_side(at, nodes)
        if side is not None:
            return self._take(side, at, nodes)
        base, ours, theirs = nodes
        is_wanted = self.only is not None and at in self.only
        if not is_wanted and isinstance(ours, DictNode) and isinstance(theirs, DictNode) and ours.kind == theirs.kind:
            return self._merge_dicts(at, base if isinstance(base, DictNode) else None, ours, theirs)
        if not is_wanted and _are_alike(nodes):
            return self._merge_sequences(at, nodes)
        return self._decide_node(at, nodes) if self.only is None or is_wanted else self._take("ours", at, nodes)

    def _find_side(self, at: str, nodes: Nodes) -> Side | None:
        """Return the side that a whole node comes from, or None if it must be merged or decided."""
        if self.only is not None:
            return None if _reaches(self.only, at) else "ours"
        base, ours, theirs = zip(nodes, (self.base, self.ours, self.theirs), strict=True)

        def is_same(one: _Here, other: _Here) -> bool:
            through_ties = one is base and None not in nodes[1:]
            return self._is_same(at, one, other, through_ties=through_ties)

        if _reaches(self.disputed, at):
            return "ours" if is_same(ours, theirs) else None
        return find_side(base, ours, theirs, is_same)

    def _merge_dicts(self, at: str, base: DictNode | None, ours: DictNode, theirs: DictNode) -> StateNode:
        base_nodes, our_nodes, their_nodes = (_as_dict(node) for node in (base, ours, theirs))
        merged: dict[StateKey, StateNode] = {}
        for key in dict.fromkeys([*our_nodes, *their_nodes]):
            node = self._merge(join_path(at, key), (base_nodes.get(key), our_nodes.get(key), their_nodes.get(key)))
            if node is not None:
                merged[key] = node
        notes = self._merge_notes(at, (None if base is None else base.metadata, ours.metadata, theirs.metadata))
        return DictNode(ours.kind, tuple(map(encode_key, merged)), tuple(merged.values()), notes)

    def _merge_sequences(self, at: str, nodes: Nodes) -> StateNode:
        base, ours, theirs = nodes
        assert ours is not None
        assert theirs is not None
        before: Sequence[StateNode | None] = [None] * len(list_nodes(ours)) if base is None else list_nodes(base)
        three = zip(before, list_nodes(ours), list_nodes(theirs), strict=True)
        parts = [self._merge(join_path(at, position), here) for position, here in enumerate(three)]
        kept = tuple(part for part in parts if part is not None)
        return ListNode(kept) if isinstance(ours, ListNode) else TupleNode(kept)

    def _merge_notes(self, at: str, notes: Nodes) -> StateNode | None:
        """Return the merged notes that a state dict has besides its leaves, such as the versions of modules."""
        base, ours, theirs = notes
        side = "ours" if self.only is not None else find_side(base, ours, theirs)
        if side is not None:
            return theirs if side == "theirs" else ours
        if isinstance(ours, DictNode) and isinstance(theirs, DictNode):
            base_nodes, our_nodes, their_nodes = (_as_dict(node) for node in notes)
            merged: dict[StateKey, StateNode] = {}
            for key in dict.fromkeys([*our_nodes, *their_nodes]):
                node = self._merge_notes(
                    join_path(at, key), (base_nodes.get(key), our_nodes.get(key), their_nodes.get(key))
                )
                if node is not None:
                    merged[key] = node
            return DictNode(ours.kind, tuple(map(encode_key, merged)), tuple(merged.values()), ours.metadata)
        side = Arbiter(self.arbiter.decide).choose(Conflict(self.path, name_key(METADATA, at), METADATA))
        self._is_broken |= side is None  # notes cannot be resolved one by one
        return theirs if side == "theirs" else ours

    def _decide_node(self, at: str, nodes: Nodes) -> StateNode | None:
        base, ours, theirs = nodes
        digests = [
            None if side is None else side.digest(at, node)
            for side, node in ((self.base, base), (self.ours, ours), (self.theirs, theirs))
        ]
        conflict = Conflict(self.path, at or None, name_kind(base, ours, theirs), *digests)
        choices = self.arbiter.decide(conflict)
        if choices and choices[0] == "average" and self._put_average(at, nodes):
            return ours
        return self._take(self.arbiter.choose(conflict) or "ours", at, nodes)

    def _put_average(self, at: str, nodes: Nodes) -> bool:
        """Put the mean of two tensors; return False if they differ in dtype or shape, or are not floating."""
        _, ours, theirs = nodes
        if self.average is None or not isinstance(ours, ArrayLeaf) or ours != theirs or "float" not in ours.dtype:
            return False
        self._put(at, self.average(ours, self.ours.entries[at], self.theirs.entries[at]))
        return True

    def _take(self, side: Side, at: str, nodes: Nodes) -> StateNode | None:
        """Return the node of one side, and put the entries of its leaves."""
        node = nodes[1 if side == "ours" else 2]
        if node is not None:
            source = self.ours if side == "ours" else self.theirs
            structure = source.structure
            for path in structure.list_leaves(at):
                if not isinstance(structure.leaves[path], TiedLeaf):
                    self._put(structure.stored_path(path), source.get_entry(path))
        return node

    def _put(self, path: str, entry: bytes) -> None:
        if self._entries.setdefault(path, entry) != entry:
            self._is_broken = True  # one memory with the bytes of both sides

    def _is_same(self, at: str, one: _Here, other: _Here, *, through_ties: bool) -> bool:
        (node, side), (other_node, other_side) = one, other
        if node is None or other_node is None or side is None or other_side is None:
            return node is other_node
        return node == other_node and side.holds_as(other_side, at, through_ties=through_ties)

    def _merge_metadata(self) -> dict[str, Any]:
        base = {} if self.base is None else self.base.metadata
        ours, theirs = self.ours.metadata, self.theirs.metadata
        return merge_mappings(self.path, METADATA, self.arbiter, base=base, ours=ours, theirs=theirs)


def _as_dict(node: StateNode | None) -> dict[StateKey, StateNode]:
    return dict(zip(list_keys(node), list_nodes(node), strict=True)) if isinstance(node, DictNode) else {}


def _reaches(paths: frozenset[str], at: str) -> bool:
    """Return whether one of `paths` is `at` or is within it."""
    return bool(paths) and (not at or any(path == at or path.startswith(f"{at}/") for path in paths))


def _are_alike(nodes: Nodes) -> bool:
    """Return whether ours and theirs, and base if present, are lists or tuples of one length."""
    base, ours, theirs = nodes
    if not isinstance(ours, ListNode | TupleNode) or type(theirs) is not type(ours):
        return False
    lengths = {len(list_nodes(node)) for node in nodes if node is not None}
    return len(lengths) == 1 and (base is None or type(base) is type(ours))
