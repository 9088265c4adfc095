"""Reads a tree in key order, a leaf at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.keys import Key, KeyBatch
from stockroom.trees.node import Node
from stockroom.trees.path import NodePath
from stockroom.trees.tree import Tree

ItemBatch: TypeAlias = tuple[KeyBatch, NDArray[np.uint8]]
"""Keys and their values `(n, value_width)`; arrays are read-only views."""


def iter_range(tree: Tree, start: Key | None = None, stop: Key | None = None) -> Iterator[ItemBatch]:
    """Yield the items from key `start` up to `stop`, exclusive, by leaf; None means the tree's own end.

    Raises `InvalidInputError`, once iterated, if a key is of another type.
    """
    first = None if start is None else tree.format.check_key(start)
    last = None if stop is None else tree.format.check_key(stop)
    path = NodePath(tree.nodes, tree.top, level=0)
    if first is not None:
        path.seek(first)
    more = True
    while more:
        leaf = path.node
        begin = 0 if first is None else leaf.keys.find(first)
        end = len(leaf) if last is None else leaf.keys.find(last)
        yield from _items(leaf, begin, end)
        more = end == len(leaf) and path.advance()


def iter_positions(tree: Tree, start: int = 0, stop: int | None = None) -> Iterator[ItemBatch]:
    """Yield the items from position `start` up to `stop`, exclusive, by leaf; positions outside are ignored."""
    count = tree.count
    begin = max(start, 0)
    end = count if stop is None else min(stop, count)
    if begin >= end:
        return
    path = NodePath(tree.nodes, tree.top, level=0)
    below = path.seek_position(begin)
    while True:
        leaf = path.node
        yield from _items(leaf, max(begin - below, 0), min(end - below, len(leaf)))
        below += len(leaf)
        if below >= end or not path.advance():
            return


def _items(leaf: Node, start: int, stop: int) -> Iterator[ItemBatch]:
    if start < stop:
        yield leaf.keys.slice(start, stop).batch, leaf.values[start:stop]
