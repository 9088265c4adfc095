"""The nodes that one tree has and another lacks, which must be sent to a holder of the other.

Both trees are descended together, a level at a time. Shared nodes are not read, so the cost follows the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.trees.node import Node, decode_node
from stockroom.trees.tree import Tree

_NODES_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class NewNodes:
    """Some of the new nodes; `values` `(n, width)` are those of their leaves that no replaced leaf had."""

    digests: list[ObjectDigest]
    values: NDArray[np.uint8]


def iter_new_nodes(tree: Tree, base: Tree | None) -> Iterator[NewNodes]:
    """Yield the nodes of `tree` that `base` lacks (all, if None), from the root down, in batches.

    A node that `base` has in another place may be included: that is rare, and harmless.
    """
    new, old = [tree.root], [] if base is None else [base.root]
    level = _read_level(tree, new)
    old_level = _read_level(base, old) if base is not None else -1
    while level >= 0:
        while base is not None and old_level > level:
            old, old_level = _list_children(base, old), old_level - 1
        known = set(old) if old_level == level else set()
        replaced = [digest for digest in old if digest not in set(new)] if old_level == level else []
        fresh = [digest for digest in new if digest not in known]
        if level:
            if fresh:
                yield NewNodes(fresh, _no_values(tree))
            new, level = _list_children(tree, fresh), level - 1
            if base is not None and old_level > level:
                old, old_level = _list_children(base, replaced), old_level - 1
            continue
        before = None if base is None else _join_values(base, replaced)
        for start in range(0, len(fresh), _NODES_AT_ONCE):
            some = fresh[start : start + _NODES_AT_ONCE]
            yield NewNodes(some, _subtract(_join_values(tree, some), before))
        return


def _read_level(tree: Tree, digests: Sequence[ObjectDigest]) -> int:
    return tree.nodes.read(digests[0]).level


def _list_children(tree: Tree, digests: Sequence[ObjectDigest]) -> list[ObjectDigest]:
    return [ObjectDigest(child) for node in _iter_nodes(tree, digests) for child in node.child_digests]


def _iter_nodes(tree: Tree, digests: Sequence[ObjectDigest]) -> Iterator[Node]:
    for start in range(0, len(digests), _NODES_AT_ONCE):
        yield from map(decode_node, tree.nodes.get_objects(digests[start : start + _NODES_AT_ONCE]))


def _join_values(tree: Tree, leaves: Sequence[ObjectDigest]) -> NDArray[np.uint8]:
    values = [node.values for node in _iter_nodes(tree, leaves)]
    return np.concatenate(values) if values else _no_values(tree)


def _no_values(tree: Tree) -> NDArray[np.uint8]:
    return np.empty((0, tree.format.value_width), np.uint8)


def _subtract(values: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the values that are not among `before`."""
    width = values.shape[1]
    if before is None or not len(before) or not len(values) or before.shape[1] != width or not width:
        return values
    mine = np.ascontiguousarray(values).view(f"V{width}").ravel()
    seen = set(np.ascontiguousarray(before).view(f"V{width}").ravel().tolist())
    return values[[value not in seen for value in mine.tolist()]]
