"""The tree as its users hold it: an immutable ordered map from keys to values of one width."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stockroom.digest import ObjectDigest
from stockroom.errors import InvalidInputError, MalformedRecordError
from stockroom.trees.build import build_root
from stockroom.trees.directory import LeafDirectory, read_directory
from stockroom.trees.edit import edit_root, make_edits
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Key, KeysLike
from stockroom.trees.lookup import count_below, find_leaf, get_leaf_at, iter_hits
from stockroom.trees.node import Node, parent_of_root
from stockroom.trees.store import NodeCache, NodeStore, cached


@dataclass(frozen=True, slots=True)
class Tree:
    """The map whose root node is stored under `root`; equal content has an equal root.

    `nodes` is `store` with a cache of decoded nodes. Trees made from one another share it; to share it between others,
    pass each the same `NodeCache` as its store.
    """

    store: NodeStore = field(compare=False, repr=False)
    format: TreeFormat
    root: ObjectDigest
    nodes: NodeCache = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", cached(self.store))

    @classmethod
    def empty(cls, store: NodeStore, tree_format: TreeFormat) -> Tree:
        """Return the tree without keys."""
        return cls.build(store, tree_format, keys=(), values=None)

    @classmethod
    def build(cls, store: NodeStore, tree_format: TreeFormat, keys: KeysLike, values: ArrayLike | None = None) -> Tree:
        """Build the tree of `keys`, in any order, and `values` `(n, value_width)` uint8 (None for width 0).

        Raises `InvalidInputError` if a key comes twice or does not fit the format.
        """
        nodes = cached(store)
        items = tree_format.make_keys(keys)
        rows = tree_format.make_values(values, count=len(items))
        if not items.is_strictly_sorted():
            order = items.argsort()
            items, rows = items.take(order), rows[order]
            if not items.is_strictly_sorted():
                raise InvalidInputError("build: expected each key once, found a duplicate")
        return cls(nodes, tree_format, build_root(nodes, tree_format, keys=items, values=rows))

    @classmethod
    def open(cls, store: NodeStore, root: ObjectDigest) -> Tree:
        """Open the tree stored under `root`, whose node gives its format."""
        nodes = cached(store)
        return cls(nodes, nodes.read(root).format, root)

    @property
    def count(self) -> int:
        """The number of keys."""
        return self.top.count

    @property
    def first_key(self) -> Key | None:
        """The least key; None in an empty tree."""
        return self.at(0)[0] if self.count else None

    @property
    def last_key(self) -> Key | None:
        """The greatest key; None in an empty tree. Reads the root only."""
        top = self.top
        return top.keys[len(top) - 1] if len(top) else None

    @property
    def dense_start(self) -> int | None:
        """The first key if the keys are consecutive integers: a key's position is then its distance from it."""
        first, last = self.first_key, self.last_key
        if isinstance(first, int) and isinstance(last, int) and last - first + 1 == self.count:
            return first
        return None

    def get(self, key: Key) -> bytes | None:
        """Return the value of `key`, None if it is missing; reads one node per level."""
        hit = find_leaf(self.nodes, self.top, self.format.check_key(key))
        return None if hit is None else hit[0].values[hit[1]].tobytes()

    def get_many(self, keys: KeysLike) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Return which of `keys` exist `(n,)`, and their values `(n, value_width)`, zeros if missing."""
        wanted = self.format.make_keys(keys)
        found = np.zeros(len(wanted), np.bool_)
        values = np.zeros((len(wanted), self.format.value_width), np.uint8)
        for hits in iter_hits(self.nodes, self.top, wanted):
            found[hits.wanted] = True
            values[hits.wanted] = hits.leaf.values[hits.rows]
        return found, values

    def at(self, position: int) -> tuple[Key, bytes]:
        """Return the key at `position` in key order and its value; raises `InvalidInputError` if out of range."""
        if not 0 <= position < self.count:
            raise InvalidInputError(f"position: expected 0 to {self.count}, found {position}")
        leaf, row = get_leaf_at(self.nodes, self.top, position)
        return leaf.keys[row], leaf.values[row].tobytes()

    def position_of(self, key: Key) -> int | None:
        """Return the position of `key` in key order; None if it is missing."""
        hit = find_leaf(self.nodes, self.top, self.format.check_key(key))
        return None if hit is None else hit[2] + hit[1]

    def count_below(self, key: Key) -> int:
        """Return the number of keys below `key`, which may be missing; reads one node per level."""
        return count_below(self.nodes, self.top, self.format.check_key(key))

    def positions_of(self, keys: KeysLike) -> NDArray[np.int64]:
        """Return the position of each of `keys` in key order `(n,)`; -1 if it is missing."""
        wanted = self.format.make_keys(keys)
        positions = np.full(len(wanted), -1, np.int64)
        for hits in iter_hits(self.nodes, self.top, wanted):
            positions[hits.wanted] = hits.below + hits.rows
        return positions

    def edit(self, put_keys: KeysLike = (), put_values: ArrayLike | None = None, *, deletes: KeysLike = ()) -> Tree:
        """Return the tree with `put_keys` set to `put_values` `(n, value_width)`, and `deletes` removed.

        Keys come in any order. Deleting a missing key does nothing. Raises `InvalidInputError` if a key comes twice or
        does not fit the format.
        """
        keys = self.format.make_keys(put_keys)
        values = self.format.make_values(put_values, count=len(keys))
        edits = make_edits(keys, values, deletes=self.format.make_keys(deletes))
        root = edit_root(self.nodes, self.top, edits)
        return Tree(self.nodes, self.format, self.root if root is None else root)

    def directory(self) -> LeafDirectory:
        """Return all leaves, listed from the nodes above them; reads no leaf except a root that is one."""
        return read_directory(self.nodes, parent_of_root(self.top, self.root))

    def read_leaf(self, digest: bytes) -> Node:
        """Return the leaf stored under `digest`; raises `MalformedRecordError` if it is not a leaf of this format."""
        leaf = self.nodes.read(digest)
        if leaf.level or leaf.format != self.format:
            raise MalformedRecordError(
                f"{digest.hex()}: expected a leaf, {self.format}, found level {leaf.level}, {leaf.format}"
            )
        return leaf

    @property
    def top(self) -> Node:
        """The root node; raises `MalformedRecordError` if it is not of this format."""
        node = self.nodes.read(self.root)
        if node.format != self.format:
            raise MalformedRecordError(f"node {self.root.hex()}: expected {self.format}, found {node.format}")
        return node
