"""Finds keys in a tree: one by one, or many in one descent."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.keys import Key, Keys
from stockroom.trees.node import Node
from stockroom.trees.store import NodeCache


@dataclass(frozen=True, slots=True)
class Hits:
    """Wanted keys found in one leaf: number `wanted[i]` is at row `rows[i]`; `below` keys are left of the leaf."""

    leaf: Node
    below: int
    wanted: NDArray[np.int64]
    rows: NDArray[np.int64]


def find_leaf(nodes: NodeCache, node: Node, key: Key) -> tuple[Node, int, int] | None:
    """Return the leaf with `key`, its row there, and the number of keys left of the leaf; None if missing."""
    below = 0
    while node.level:
        index = node.keys.find(key)
        if index == len(node):
            return None
        below += node.child_ends_list[index - 1] if index else 0
        node = nodes.read_child(node, index)
    row = node.keys.find(key)
    if row == len(node) or node.keys[row] != key:
        return None
    return node, row, below


def count_below(nodes: NodeCache, node: Node, key: Key) -> int:
    """Return the number of keys under `node` that are below `key`."""
    below = 0
    while node.level:
        index = node.keys.find(key)
        if index == len(node):
            return below + node.count
        below += node.child_ends_list[index - 1] if index else 0
        node = nodes.read_child(node, index)
    return below + node.keys.find(key)


def get_leaf_at(nodes: NodeCache, node: Node, position: int) -> tuple[Node, int]:
    """Return the leaf with the key at `position`, 0 up to the tree's count, and its row there."""
    while node.level:
        ends = node.child_ends_list
        index = bisect_right(ends, position)
        position -= ends[index - 1] if index else 0
        node = nodes.read_child(node, index)
    return node, position


def iter_hits(nodes: NodeCache, root: Node, wanted: Keys) -> Iterator[Hits]:
    """Yield the wanted keys that exist, by leaf in key order; `wanted` may be in any order and may repeat."""
    order = wanted.argsort()
    for hits in _descend(nodes, root, 0, wanted.take(order), np.arange(len(wanted))):
        yield Hits(hits.leaf, hits.below, order[hits.wanted], hits.rows)


def _descend(nodes: NodeCache, node: Node, below: int, wanted: Keys, indices: NDArray[np.int64]) -> Iterator[Hits]:
    """Yield the hits below `node` for sorted `wanted`, whose positions in the whole batch are `indices`."""
    positions, found = node.keys.locate(wanted)
    if not node.level:
        yield Hits(node, below, indices[found], positions[found])
        return
    within = int(positions.searchsorted(len(node)))
    if not within:  # nothing is wanted, or all of it is after the last key
        return
    stops = [*(np.flatnonzero(positions[1:within] != positions[: within - 1]) + 1).tolist(), within]
    starts = [0, *stops[:-1]]
    ends = node.child_ends_list
    chosen = positions[starts].tolist()
    loaded = nodes.read_children(node, chosen)
    for index, child, start, stop in zip(chosen, loaded, starts, stops, strict=True):
        left = below + (ends[index - 1] if index else 0)
        yield from _descend(nodes, child, left, wanted.slice(start, stop), indices[start:stop])
