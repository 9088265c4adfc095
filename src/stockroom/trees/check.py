"""Walks a whole tree and checks what look-ups take for granted: that parents tell the truth about their children."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import MalformedRecordError
from stockroom.trees.node import Node
from stockroom.trees.tree import Tree


def check_tree(tree: Tree, seen: set[bytes]) -> Iterator[NDArray[np.uint8]]:
    """The values `(n, value_width)` of each leaf not in `seen`, to which every node looked at is added.

    Raises `CorruptionError` for a node that is missing, damaged, or not what its parent says.
    """
    top = tree.top
    if tree.root not in seen:
        seen.add(tree.root)
        yield from _walk(tree, top, seen)


def _walk(tree: Tree, node: Node, seen: set[bytes]) -> Iterator[NDArray[np.uint8]]:
    if not node.level:
        yield node.values
        return
    for index, digest in enumerate(node.child_digests):
        if digest in seen:
            continue
        seen.add(digest)
        child = tree.nodes.read_child(node, index)
        _check_bounds(node, index, child)
        yield from _walk(tree, child, seen)


def _check_bounds(node: Node, index: int, child: Node) -> None:
    """Whether a child's keys end at its parent's key for it, and begin after the one before."""
    last = child.keys[len(child) - 1]
    starts_late = index == 0 or not child.keys.find_right(node.keys[index - 1])
    if last != node.keys[index] or not starts_late:
        raise MalformedRecordError(
            f"node {node.child_digests[index].hex()}: expected keys up to {node.keys[index]!r}, found up to {last!r}"
        )
