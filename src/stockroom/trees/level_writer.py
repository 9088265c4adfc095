"""Writes one level of a tree: takes items and produces nodes."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.boundary import list_ends
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Key, Keys
from stockroom.trees.node import CHILD_WIDTH, Node, item_width, join_nodes
from stockroom.trees.store import NodeCache


@final
class LevelWriter:
    """Cuts runs of items into nodes and writes them; a run starts at a node's start."""

    __slots__ = ("_children", "_format", "_last_keys", "_level", "_nodes", "_tail")

    def __init__(self, nodes: NodeCache, tree_format: TreeFormat, *, level: int) -> None:
        self._nodes = nodes
        self._format = tree_format
        self._level = level
        self._tail: Node | None = None
        self._last_keys: list[Any] = []
        self._children: list[bytes] = []

    @property
    def is_at_boundary(self) -> bool:
        """Whether every item so far is in a written node."""
        return self._tail is None

    def append(self, keys: Keys, values: NDArray[np.uint8]) -> None:
        """Append items greater than those before; write every node they close."""
        run = Node(self._format, self._level, keys=keys, values=values)
        if self._tail is not None:
            run = join_nodes([self._tail, run])
        start = 0
        for end in list_ends(run.keys, item_width(self._format, self._level), level=self._level):
            self._write(run.slice(start, end))
            start = end
        self._tail = run.slice(start, len(run)) if start < len(run) else None

    def write(self, node: Node) -> None:
        """Write a node whose keys are those of one written earlier, so cut the same way; only at a boundary."""
        self._write(node)

    def finish(self) -> None:
        """Write the remaining items as the level's last node."""
        if self._tail is not None:
            self._write(self._tail)
            self._tail = None

    def written(self) -> tuple[Keys, NDArray[np.uint8]]:
        """Return the nodes written so far, as items of the level above: keys and values `(n, 40)`."""
        values = np.frombuffer(b"".join(self._children), np.uint8).reshape(-1, CHILD_WIDTH)
        return self._format.make_keys(self._last_keys), values

    def _write(self, node: Node) -> None:
        last_key: Key = node.keys[len(node) - 1]
        self._last_keys.append(last_key)
        self._children.append(self._nodes.write(node) + node.count.to_bytes(8, "little"))
