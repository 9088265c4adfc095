"""Three-way merge of trees of one height, part by part: a part that only one side changed is taken whole, unread.

A part of a level lies between two keys at which all three trees are cut, and so are they at every level below. Within
it, the merged tree is cut like the side it is taken from. Parts that both sides changed are merged a level further down
and cut again; should the end of one be no cut of the merged tree, it is merged again along with the next part.

The last key of a tree is no such cut, as nothing but the end of the tree may have made it one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.trees.edit import apply_edits, build_root_of
from stockroom.trees.keys import Keys
from stockroom.trees.level_writer import LevelWriter
from stockroom.trees.merge_keys import Decisions, KeyChange, KeyMerge, KeyValues
from stockroom.trees.node import Node, join_nodes
from stockroom.trees.rows import mark_differing
from stockroom.trees.store import NodeCache
from stockroom.trees.tree import Tree

_MOST_CHILDREN = 64
"""The most nodes of one tree that are merged together."""

_KEEP, _ADOPT, _DESCEND = range(3)


class _CutMovedError(Exception):
    """The merged part does not end at its end."""


class _TooWideError(Exception):
    """The trees have too few cuts in common."""


class _Three(NamedTuple):
    """The same of each of the three trees."""

    base: Node
    ours: Node
    theirs: Node


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of some items: which are kept, adopted or descended into `(n,)`, and the bounds in each tree `(n,)`."""

    actions: NDArray[np.int64]
    starts: list[NDArray[np.int64]]
    ends: list[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.actions)

    def list_items_below(self, side: int) -> list[int]:
        """Return the items of one tree in the parts that are descended into, ascending."""
        chosen = self.actions == _DESCEND
        bounds = zip(self.starts[side][chosen].tolist(), self.ends[side][chosen].tolist(), strict=True)
        return [row for start, stop in bounds for row in range(start, stop)]

    def list_runs(self) -> list[tuple[int, int]]:
        """Return the runs of parts of one action, as start and stop; each part that is descended into is alone."""
        actions = self.actions
        is_new = (actions[1:] != actions[:-1]) | (actions[1:] == _DESCEND)
        starts = [0, *(np.flatnonzero(is_new) + 1).tolist()]
        return list(zip(starts, [*starts[1:], len(actions)], strict=True))


def merge_parts(base: Tree, ours: Tree, theirs: Tree, decisions: Decisions) -> ObjectDigest | None:
    """Return the root of the merged tree; None if the trees are too different to be merged part by part."""
    tops = _Three(base.top, ours.top, theirs.top)
    level = ours.top.level
    if not level or any(top.level != level or top.format is not ours.top.format for top in tops):
        return None
    try:
        merged = _PartMerge((base.nodes, ours.nodes, theirs.nodes), decisions).merge(tops, is_last=True)
    except _TooWideError:
        return None
    return build_root_of(ours.nodes, merged)


class _PartMerge:
    """One merge; `nodes` reads each of the three trees, and the second writes."""

    def __init__(self, nodes: tuple[NodeCache, NodeCache, NodeCache], decisions: Decisions) -> None:
        self._nodes = nodes
        self._decisions = decisions

    def merge(self, three: _Three, *, is_last: bool) -> Node:
        """Return the merged items of a part, whose end is that of the trees if it is the last."""
        if not three.ours.level:
            return self._merge_leaves(three)
        parts = _split(three, is_last=is_last)
        read = _AheadReader(self._nodes, three, parts)
        pieces, done = [], 0
        for start, stop in parts.list_runs():
            if stop <= done:
                continue
            start = max(start, done)
            action = int(parts.actions[start])
            if action == _DESCEND:
                piece, stop = self._descend(parts, read, start, is_last=is_last)
                pieces.append(piece)
            else:
                side = _TAKEN_FROM[action]
                pieces.append(three[side].slice(int(parts.starts[side][start]), int(parts.ends[side][stop - 1])))
            done = stop
        return join_nodes(pieces)

    def _descend(self, parts: _Parts, read: _AheadReader, start: int, *, is_last: bool) -> tuple[Node, int]:
        """Return a part merged below, along with the next ones if its end moves, and where the next part starts."""
        level = read.three.ours.level - 1
        writer = LevelWriter(self._nodes[1], read.three.ours.format, level=level)
        for stop in range(start + 1, len(parts) + 1):
            within_last = is_last and stop == len(parts)
            try:
                merged, is_whole_node = self._merge_below(parts, read, start, stop, is_last=within_last)
            except _CutMovedError:
                continue
            start = stop
            if is_whole_node and writer.is_at_boundary:
                writer.write(merged)
            elif len(merged):
                writer.append(merged.keys, merged.values)
            if within_last:
                writer.finish()
            if writer.is_at_boundary:
                keys, values = writer.written()
                return Node(merged.format, level + 1, keys=keys, values=values), stop
        raise _CutMovedError

    def _merge_below(
        self, parts: _Parts, read: _AheadReader, start: int, stop: int, *, is_last: bool
    ) -> tuple[Node, bool]:
        """Return the merged children of some parts, and whether they have the keys of one node of ours."""
        action = int(parts.actions[start])
        if stop == start + 1 and action != _DESCEND:
            return read.read_side(_TAKEN_FROM[action], start, stop), False
        below = read.read(start, stop)
        merged = self.merge(below, is_last=is_last)
        is_one_node = int(parts.ends[1][stop - 1] - parts.starts[1][start]) == 1
        return merged, is_one_node and merged.keys.equals(below.ours.keys)

    def _merge_leaves(self, three: _Three) -> Node:
        change = _compare_leaves(three.base, three.theirs)
        merge = KeyMerge(three.ours.format, self._decisions)
        merge.take(change, _look_up(three.ours, change.keys))
        return apply_edits(three.ours, merge.edits())


class _AheadReader:
    """Reads the children of the parts that are descended into, of many parts in one request."""

    def __init__(self, nodes: tuple[NodeCache, NodeCache, NodeCache], three: _Three, parts: _Parts) -> None:
        self._nodes = nodes
        self.three = three
        self._parts = parts
        self._read: list[dict[int, Node]] = [{}, {}, {}]
        self._wanted = [parts.list_items_below(side) for side in range(3)]

    def read(self, start: int, stop: int) -> _Three:
        """Return the children of the parts from `start` up to `stop` joined, of each tree."""
        return _Three(*(self.read_side(side, start, stop) for side in range(3)))

    def read_side(self, side: int, start: int, stop: int) -> Node:
        """Return the children of the parts from `start` up to `stop` joined, of one tree."""
        items, known = self.three[side], self._read[side]
        rows = range(int(self._parts.starts[side][start]), int(self._parts.ends[side][stop - 1]))
        if len(rows) > _MOST_CHILDREN:
            raise _TooWideError
        if any(row not in known for row in rows):
            wanted = self._wanted[side]
            at = bisect_left(wanted, rows[0])
            chosen = sorted({*rows, *wanted[at : at + _MOST_CHILDREN]})
            children = self._nodes[side].read_children(items, chosen)
            known = self._read[side] = dict(zip(chosen, children, strict=True))
        return join_nodes([known[row] for row in rows])


_TAKEN_FROM = {_KEEP: 1, _ADOPT: 2}
"""The tree that a part is taken from."""


def _split(three: _Three, *, is_last: bool) -> _Parts:
    """Cut items above the leaves into parts, as small as possible."""
    base, ours, theirs = three
    if base.keys.equals(ours.keys) and base.keys.equals(theirs.keys):
        return _split_alike(three)
    in_ours, ours_has = ours.keys.locate(base.keys)
    in_theirs, theirs_has = theirs.keys.locate(base.keys)
    is_common = ours_has & theirs_has
    at = np.flatnonzero(is_common)
    if is_last:
        at = at[(at + 1 < len(base)) & (in_ours[at] + 1 < len(ours)) & (in_theirs[at] + 1 < len(theirs))]
    ends = [at + 1, in_ours[at] + 1, in_theirs[at] + 1]
    if is_last:
        ends = [np.append(some, len(items)) for some, items in zip(ends, three, strict=True)]
    elif not len(at) or any(some[-1] != len(items) for some, items in zip(ends, three, strict=True)):
        raise _TooWideError  # a node does not end where its parent says
    starts = [np.append(0, some[:-1]) for some in ends]
    ours_changed = _mark_changed(base, ours, in_ours, ours_has, (starts[0], ends[0]), (starts[1], ends[1]))
    theirs_changed = _mark_changed(base, theirs, in_theirs, theirs_has, (starts[0], ends[0]), (starts[2], ends[2]))
    actions = np.where(theirs_changed, np.where(ours_changed, _DESCEND, _ADOPT), _KEEP)
    for part in np.flatnonzero(actions == _DESCEND).tolist():
        ours_part, theirs_part = (three[side].slice(starts[side][part], ends[side][part]) for side in (1, 2))
        if ours_part.keys.equals(theirs_part.keys) and np.array_equal(ours_part.values, theirs_part.values):
            actions[part] = _KEEP
    return _Parts(actions, starts, ends)


def _split_alike(three: _Three) -> _Parts:
    """Cut items with the same keys: each is a part."""
    base, ours, theirs = (items.values for items in three)
    actions = np.where(mark_differing(base, theirs), _ADOPT, _KEEP)
    actions[np.flatnonzero(mark_differing(base, ours) & (actions == _ADOPT))] = _DESCEND
    actions[np.flatnonzero((actions == _DESCEND) & ~mark_differing(ours, theirs))] = _KEEP
    starts = np.arange(len(actions) + 1)
    return _Parts(actions, [starts[:-1]] * 3, [starts[1:]] * 3)


def _mark_changed(
    base: Node,
    side: Node,
    at: NDArray[np.int64],
    found: NDArray[np.bool_],
    base_bounds: tuple[NDArray[np.int64], NDArray[np.int64]],
    side_bounds: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Return in which parts a side differs from the base, whose keys are `found` in the side, `at` these rows."""
    is_changed = ~found
    is_changed[found] = mark_differing(base.values[found], side.values[at[found]])
    changes_before = np.append(0, is_changed.cumsum())
    (base_starts, base_ends), (side_starts, side_ends) = base_bounds, side_bounds
    has_others: NDArray[np.bool_] = (side_ends - side_starts) != (base_ends - base_starts)
    return has_others | (changes_before[base_ends] > changes_before[base_starts])


def _compare_leaves(base: Node, theirs: Node) -> KeyChange:
    """Return what changed between two leaves, in key order."""
    at, found = base.keys.locate(theirs.keys)
    is_put = ~found
    is_put[found] = mark_differing(base.values[at[found]], theirs.values[found])
    is_gone = np.ones(len(base), np.bool_)
    is_gone[at[found]] = False
    put, gone = theirs.take(np.flatnonzero(is_put)), base.take(np.flatnonzero(is_gone))
    keys = put.keys.concat([gone.keys])
    before = _look_up(base, put.keys)
    change = KeyChange(
        keys,
        KeyValues(np.append(before.found, np.ones(len(gone), np.bool_)), np.concatenate([before.values, gone.values])),
        KeyValues(np.arange(len(keys)) < len(put), np.concatenate([put.values, np.zeros_like(gone.values)])),
    )
    return change.take(keys.argsort()) if len(gone) and len(put) else change


def _look_up(leaf: Node, keys: Keys) -> KeyValues:
    """Return the values of some keys in a leaf."""
    at, found = leaf.keys.locate(keys)
    values = np.zeros((len(keys), leaf.format.value_width), np.uint8)
    values[found] = leaf.values[at[found]]
    return KeyValues(found, values)
