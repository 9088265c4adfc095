"""Lists all leaves of a tree from the nodes above them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES
from stockroom.trees.keys import KeyBatch
from stockroom.trees.node import Node, join_nodes
from stockroom.trees.store import NodeCache


@dataclass(frozen=True, slots=True)
class LeafDirectory:
    """The positions and digests of a tree's `n` leaves; an empty tree has none.

    `starts` is `(n + 1,)` int64: the number of keys before each leaf, and at the end the number of all keys. `digests`
    is `(n, 32)` uint8. `last_keys` holds the greatest key of each leaf.
    """

    starts: NDArray[np.int64]
    digests: NDArray[np.uint8]
    last_keys: KeyBatch

    def __len__(self) -> int:
        return len(self.digests)


def read_directory(nodes: NodeCache, top: Node) -> LeafDirectory:
    """Return the leaves below `top`, a node above the leaves; reads no leaf."""
    while top.level > 1:
        top = join_nodes(nodes.read_children(top, range(len(top))))
    starts = np.zeros(len(top) + 1, np.int64)
    starts[1:] = top.child_ends
    return LeafDirectory(starts, np.ascontiguousarray(top.values[:, :DIGEST_NBYTES]), top.keys.batch)
