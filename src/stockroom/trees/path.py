"""A position in one level of a tree: the way down to a node, and from there to its right neighbors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import final

from stockroom.trees.keys import Key, Keys
from stockroom.trees.node import Node
from stockroom.trees.store import NodeCache


@final
class NodePath:
    """A node of level `level` below `root`, read on demand, and the nodes on the way to it; starts at the first."""

    __slots__ = ("_indices", "_level", "_node", "_nodes", "_parents", "_root")

    def __init__(self, nodes: NodeCache, root: Node, *, level: int) -> None:
        self._nodes = nodes
        self._root = root
        self._level = level
        self._parents: list[Node] = []
        self._indices: list[int] = []
        self._node: Node | None = None
        self._descend(root, _leftmost)

    @property
    def node(self) -> Node:
        """The node here."""
        if self._node is None:
            self._node = self._nodes.read_child(self._parents[-1], self._indices[-1])
        return self._node

    @property
    def is_last(self) -> bool:
        """Whether no node of this level lies to the right."""
        return all(index + 1 == len(parent) for parent, index in zip(self._parents, self._indices, strict=True))

    def seek(self, key: Key) -> None:
        """Go to the first node whose last key is not below `key`, or to the last node if there is none."""
        self._descend(self._root, lambda parent: min(parent.keys.find(key), len(parent) - 1))

    def seek_position(self, position: int) -> int:
        """Go to the node that holds the key at `position`; returns the number of keys left of that node."""
        below = 0

        def choose(parent: Node) -> int:
            nonlocal below
            ends = parent.child_ends_list
            index = min(bisect_right(ends, position - below), len(ends) - 1)
            below += ends[index - 1] if index else 0
            return index

        self._descend(self._root, choose)
        return below

    def advance(self) -> bool:
        """Go to the right neighbor; returns False, changing nothing, if there is none."""
        depth = len(self._parents) - 1
        while depth >= 0 and self._indices[depth] + 1 == len(self._parents[depth]):
            depth -= 1
        if depth < 0:
            return False
        del self._parents[depth + 1 :], self._indices[depth + 1 :]
        self._indices[depth] += 1
        self._continue(_leftmost)
        return True

    def count_up_to_here(self, sorted_keys: Keys) -> int:
        """Return how many of `sorted_keys` belong to this node or to one left of it."""
        if self.is_last:
            return len(sorted_keys)
        return sorted_keys.count_up_to(self._parents[-1].keys[self._indices[-1]])

    def _descend(self, root: Node, choose: Callable[[Node], int]) -> None:
        self._parents.clear()
        self._indices.clear()
        if root.level == self._level:
            self._node = root
            return
        self._parents.append(root)
        self._indices.append(choose(root))
        self._continue(choose)

    def _continue(self, choose: Callable[[Node], int]) -> None:
        self._node = None
        while (parent := self._parents[-1]).level > self._level + 1:
            child = self._nodes.read_child(parent, self._indices[-1])
            self._parents.append(child)
            self._indices.append(choose(child))


def _leftmost(_parent: Node) -> int:
    return 0
