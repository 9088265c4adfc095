"""Builds a whole tree from its sorted content."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Keys
from stockroom.trees.level_writer import LevelWriter
from stockroom.trees.node import child_digest, empty_node
from stockroom.trees.store import NodeCache

_RUN = 1 << 18  # items cut at a time: bounds the memory taken beside the content's own


def build_root(
    nodes: NodeCache, tree_format: TreeFormat, *, keys: Keys, values: NDArray[np.uint8], level: int = 0
) -> ObjectDigest:
    """Write the tree above the given items of `level`, strictly sorted; returns its root's digest.

    The root is the lowest level with exactly one node. Without items it is one empty leaf.
    """
    if not len(keys) and not level:
        return nodes.write(empty_node(tree_format, 0))
    while True:
        keys, values = _build_level(nodes, tree_format, keys=keys, values=values, level=level)
        level += 1
        if len(keys) == 1:
            return child_digest(values[0])


def _build_level(
    nodes: NodeCache, tree_format: TreeFormat, *, keys: Keys, values: NDArray[np.uint8], level: int
) -> tuple[Keys, NDArray[np.uint8]]:
    writer = LevelWriter(nodes, tree_format, level=level)
    for start in range(0, len(keys), _RUN):
        writer.append(keys.slice(start, start + _RUN), values[start : start + _RUN])
    writer.finish()
    return writer.written()
