"""ORDER: prolly trees, ordered maps whose root digest depends only on their content.

A tree maps keys, all int or all str, to values of one width in bytes. Knows nothing of tensors, columns or commits.
`Tree` builds, looks up and edits; `iter_range` and `iter_positions` read in order; `diff_trees` compares.
"""

from stockroom.trees.cursor import ItemBatch, iter_positions, iter_range
from stockroom.trees.diff import DiffBatch, diff_trees, find_unshared_key
from stockroom.trees.directory import LeafDirectory
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Key, KeyBatch, KeysLike, KeyType
from stockroom.trees.new_nodes import NewNodes, iter_new_nodes
from stockroom.trees.node import Node, decode_node
from stockroom.trees.store import NodeCache, NodeStore
from stockroom.trees.tree import Tree

__all__ = [
    "DiffBatch",
    "ItemBatch",
    "Key",
    "KeyBatch",
    "KeyType",
    "KeysLike",
    "LeafDirectory",
    "NewNodes",
    "Node",
    "NodeCache",
    "NodeStore",
    "Tree",
    "TreeFormat",
    "decode_node",
    "diff_trees",
    "find_unshared_key",
    "iter_new_nodes",
    "iter_positions",
    "iter_range",
]
