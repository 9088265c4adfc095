"""Three-way merge of nested states, leaf by leaf: a model whose head one side trained and whose body the other.

Containers are merged where they stand: of a dict by key, of a list or tuple by position if neither side changed its
length. Order is ours, with what they added behind it. A leaf goes with the bytes that its side has under it; where ties
and shared memory of the two sides do not fit together, the whole state is in conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from stockroom.digest import ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.refs import ObjectStore
from stockroom.repository.conflict import STRUCTURE, Conflict, Decide, Side, name_kind
from stockroom.repository.snapshot import Snapshot
from stockroom.repository.state import STATE_ENTRIES, STATE_TREE, StateRecord
from stockroom.repository.structure import (
    ArrayLeaf,
    Constant,
    DictNode,
    Leaf,
    ListNode,
    Node,
    StateKey,
    StridedLeaf,
    TiedLeaf,
    TupleNode,
    check_structure,
    encode_structure,
    encode_text,
    iter_stored,
    join_path,
    list_keys,
    list_nodes,
)
from stockroom.trees import Tree, iter_range

Average: TypeAlias = Callable[[ArrayLeaf, bytes, bytes], bytes]
"""Makes the entry of the mean of two tensors of one form from their entries."""

_ABSENT: Final = None


@dataclass(frozen=True, slots=True)
class StateSide:
    """One side's state: its top node and the entries of its leaves by the path they are stored under."""

    top: Node
    entries: Mapping[str, bytes]
    metadata: Mapping[str, Any]


def read_side(snapshot: Snapshot, record: StateRecord) -> StateSide:
    """A state as the merge takes it; reads its metadata only."""
    entries = {
        str(path): value.tobytes()
        for paths, values in iter_range(snapshot.open_tree(record))
        for path, value in zip(paths, values, strict=True)
    }
    return StateSide(snapshot.read_structure(record).top, entries, record.metadata)


@dataclass(slots=True)
class StateMerge:
    """The merge of one state at `path`; conflicts that nobody decides are collected, and stay as ours."""

    path: str
    base: StateSide | None
    ours: StateSide
    theirs: StateSide
    decide: Decide
    average: Average | None = None
    conflicts: list[Conflict] = field(default_factory=list)
    entries: dict[str, bytes] = field(default_factory=dict)

    def run(self) -> tuple[Node, dict[str, bytes], dict[str, Any]] | None:
        """The merged structure, entries and metadata; None where the sides do not fit together at all."""
        base = None if self.base is None else self.base.top
        top = self._merge("", base, self.ours.top, self.theirs.top)
        metadata = self._merge_metadata()
        if top is _ABSENT or self._is_broken(top):
            return None
        return top, {path: self.entries[path] for path, _ in iter_stored(top)}, metadata

    def _merge(self, at: str, base: Node | None, ours: Node | None, theirs: Node | None) -> Node | None:
        if self._is_same(at, ours, self.ours, theirs, self.theirs):
            return self._take("ours", at, ours)
        if self._is_unchanged(at, base, ours, self.ours):
            return self._take("theirs", at, theirs)
        if self._is_unchanged(at, base, theirs, self.theirs):
            return self._take("ours", at, ours)
        if isinstance(ours, DictNode) and isinstance(theirs, DictNode) and ours.kind == theirs.kind:
            return self._merge_dicts(at, base if isinstance(base, DictNode) else None, ours, theirs)
        if _are_alike(base, ours, theirs):
            assert isinstance(ours, ListNode | TupleNode)
            return self._merge_lists(at, base, ours, theirs)
        return self._settle(at, base, ours, theirs)

    def _merge_dicts(self, at: str, base: DictNode | None, ours: DictNode, theirs: DictNode) -> Node:
        sides = [
            dict(zip(list_keys(n), list_nodes(n), strict=True)) if n is not None else {} for n in (base, ours, theirs)
        ]
        merged: dict[StateKey, Node] = {}
        for key in dict.fromkeys([*sides[1], *sides[2]]):
            node = self._merge(join_path(at, key), *(side.get(key) for side in sides))
            if node is not None:
                merged[key] = node
        is_old = base is not None and base.metadata == ours.metadata
        notes = theirs.metadata if is_old else ours.metadata
        return DictNode(
            ours.kind,
            tuple(key if isinstance(key, int) else encode_text(key) for key in merged),
            tuple(merged.values()),
            notes,
        )

    def _merge_lists(self, at: str, base: Node | None, ours: ListNode | TupleNode, theirs: Node | None) -> Node | None:
        before = list_nodes(base) if base is not None else (None,) * len(ours.nodes)
        parts = [
            self._merge(join_path(at, position), *three)
            for position, three in enumerate(zip(before, ours.nodes, list_nodes(theirs), strict=True))  # type: ignore[arg-type]
        ]
        kept = tuple(part for part in parts if part is not None)
        return ListNode(kept) if isinstance(ours, ListNode) else TupleNode(kept)

    def _settle(self, at: str, base: Node | None, ours: Node | None, theirs: Node | None) -> Node | None:
        nodes = (
            self._digest(base, self.base, at),
            self._digest(ours, self.ours, at),
            self._digest(theirs, self.theirs, at),
        )
        conflict = Conflict(self.path, at, name_kind(base, ours, theirs), *nodes)
        choice = self.decide(conflict)
        if choice == "average":
            averaged = self._average(at, ours, theirs)
            if averaged is not None:
                return averaged
            choice = None
        if choice is None:
            self.conflicts.append(conflict)
        return self._take("theirs", at, theirs) if choice == "theirs" else self._take("ours", at, ours)

    def _average(self, at: str, ours: Node | None, theirs: Node | None) -> Node | None:
        """The mean of two tensors of one floating dtype and shape; None for anything else."""
        if self.average is None or not isinstance(ours, ArrayLeaf) or ours != theirs or "float" not in ours.dtype:
            return None
        self.entries[at] = self.average(ours, self.ours.entries[at], self.theirs.entries[at])
        return ours

    def _take(self, side: Side, at: str, node: Node | None) -> Node | None:
        """A node of one side, with the entries of the leaves in it."""
        if node is None:
            return None
        known = (self.ours if side == "ours" else self.theirs).entries
        for path, leaf in _iter_leaves(node, at):
            stored = leaf.base if isinstance(leaf, StridedLeaf) else path
            if isinstance(leaf, TiedLeaf):
                continue
            if self.entries.setdefault(stored, known[stored]) != known[stored]:
                self._break(stored)
        return node

    def _is_unchanged(self, at: str, base: Node | None, node: Node | None, side: StateSide) -> bool:
        return node is None if base is None or self.base is None else self._is_same(at, base, self.base, node, side)

    def _is_same(self, at: str, one: Node | None, side: StateSide, two: Node | None, other: StateSide) -> bool:
        if one is None or two is None:
            return one is two
        if one != two:
            return False
        return all(
            side.entries[path] == other.entries[path]
            for path in dict.fromkeys(_name_stored(path, leaf) for path, leaf in _iter_leaves(one, at))
            if path is not None
        )

    def _merge_metadata(self) -> dict[str, Any]:
        base = {} if self.base is None else dict(self.base.metadata)
        ours, theirs = dict(self.ours.metadata), dict(self.theirs.metadata)
        merged = {}
        for key in dict.fromkeys([*ours, *theirs]):
            before, mine, yours = (side.get(key, _MISSING) for side in (base, ours, theirs))
            value = yours if mine == before else mine
            if mine != before and yours != before and mine != yours:
                conflict = Conflict(
                    self.path, f"metadata {key}", name_kind(before is not _MISSING or None, mine, yours)
                )
                choice = self.decide(conflict)
                if choice not in ("ours", "theirs"):
                    self.conflicts.append(conflict)
                value = yours if choice == "theirs" else mine
            if value is not _MISSING:
                merged[key] = value
        return merged

    def _is_broken(self, top: Node) -> bool:
        """Whether ties or memory shared among leaves of both sides do not fit together."""
        try:
            check_structure(top, where=self.path)
        except MalformedRecordError:
            self._break("")
        return any(conflict.kind == STRUCTURE for conflict in self.conflicts)

    def _break(self, at: str) -> None:
        self.conflicts.append(Conflict(self.path, at or None, STRUCTURE))

    def _digest(self, node: Node | None, side: StateSide | None, at: str) -> str | None:
        """The digest of a leaf's bytes, or the bytes themselves where they are inline; None for a container."""
        if node is None or side is None or not isinstance(node, Leaf):
            return None
        stored = _name_stored(at, node)
        return None if stored is None else STATE_ENTRIES.decode(side.entries[stored]).payload.hex()


_MISSING: Final = object()


def write_merged(
    snapshot: Snapshot, objects: ObjectStore, merged: tuple[Node, dict[str, bytes], dict[str, Any]]
) -> StateRecord:
    """The record of a merged state, its structure and tree put."""
    top, entries, metadata = merged
    values = np.frombuffer(b"".join(entries.values()), np.uint8).reshape(len(entries), STATE_TREE.value_width)
    tree = Tree.build(snapshot.nodes, STATE_TREE, keys=list(entries), values=values)
    structure: ObjectDigest = objects.put_object(encode_structure(top))
    return StateRecord(structure, tree.root, metadata)


def _are_alike(base: Node | None, ours: Node | None, theirs: Node | None) -> bool:
    """Whether ours and theirs, and base if there is one, are lists or tuples of one length."""
    if not isinstance(ours, ListNode | TupleNode) or type(theirs) is not type(ours):
        return False
    lengths = {len(list_nodes(node)) for node in (base, ours, theirs) if node is not None}
    return len(lengths) == 1 and (base is None or type(base) is type(ours))


def _iter_leaves(node: Node, at: str) -> Iterator[tuple[str, Leaf]]:
    """The leaves in a node that is found at `at`."""
    if isinstance(node, DictNode | ListNode | TupleNode):
        for key, part in zip(list_keys(node), list_nodes(node), strict=True):
            yield from _iter_leaves(part, join_path(at, key))
    elif not isinstance(node, Constant):
        yield at, node


def _name_stored(path: str, leaf: Leaf) -> str | None:
    """The path a leaf's bytes are stored under; None for one that is tied to another."""
    if isinstance(leaf, TiedLeaf):
        return None
    return leaf.base if isinstance(leaf, StridedLeaf) else path
