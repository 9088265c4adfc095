"""Edits a tree level by level; only nodes whose content or boundaries change are rewritten.

At each level the nodes that hold an edited key are merged with their edits and cut again. This continues to the right
until a new boundary meets an old one; from there on the old nodes are kept. The replaced and the written nodes are the
edits of the level above. Cuts depend on content alone, so the root equals that of a rebuilt tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.errors import InvalidInputError
from stockroom.trees.build import build_root
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Keys
from stockroom.trees.level_writer import LevelWriter
from stockroom.trees.node import Node, child_digest, empty_node, join_nodes
from stockroom.trees.path import NodePath
from stockroom.trees.rows import mark_differing
from stockroom.trees.store import NodeCache

_LONGEST_MERGE = 1 << 16  # items merged at a time


@dataclass(frozen=True, slots=True)
class Edits:
    """The changes of one level: `keys` strictly sorted, `values` `(n, width)`, `is_delete` `(n,)`."""

    keys: Keys
    values: NDArray[np.uint8]
    is_delete: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, start: int, stop: int) -> Edits:
        """Return the edits from `start` up to `stop`."""
        return Edits(self.keys.slice(start, stop), self.values[start:stop], self.is_delete[start:stop])


def make_edits(put_keys: Keys, put_values: NDArray[np.uint8], *, deletes: Keys) -> Edits:
    """Return the puts and deletes as one sorted batch; raises `InvalidInputError` if a key comes twice."""
    edits = _sorted_edits(put_keys, put_values, deletes=deletes)
    if not edits.keys.is_strictly_sorted():
        raise InvalidInputError("edit: expected each key once among puts and deletes, found a duplicate")
    return edits


def edit_root(nodes: NodeCache, top: Node, edits: Edits) -> ObjectDigest | None:
    """Write the tree below `top` with `edits` applied; returns its root's digest, or None if nothing changes.

    Deleting a missing key changes nothing, nor does putting the value that a key has.
    """
    if not len(top):
        return _build_first(nodes, top.format, edits)
    for level in range(top.level + 1):
        edits = _edit_level(nodes, top, edits, level=level)
        if not len(edits):
            return None
    written = np.flatnonzero(~edits.is_delete)
    keys, values = edits.keys.take(written), edits.values[written]
    return build_root_of(nodes, Node(top.format, top.level + 1, keys=keys, values=values))


def _build_first(nodes: NodeCache, tree_format: TreeFormat, edits: Edits) -> ObjectDigest | None:
    """Write the tree of the edits of an empty tree; returns its root's digest, or None if nothing is put."""
    put = np.flatnonzero(~edits.is_delete)
    if not len(put):
        return None
    return build_root(nodes, tree_format, keys=edits.keys.take(put), values=edits.values[put])


def build_root_of(nodes: NodeCache, items: Node) -> ObjectDigest:
    """Write the tree above all items of one level, which is above the leaves; returns its root's digest."""
    if not len(items):
        return nodes.write(empty_node(items.format, 0))
    if len(items) > 1:
        return build_root(nodes, items.format, keys=items.keys, values=items.values, level=items.level)
    digest = child_digest(items.values[0])
    while (node := nodes.read(digest)).level and len(node) == 1:
        digest = child_digest(node.values[0])
    return digest


def _edit_level(nodes: NodeCache, top: Node, edits: Edits, *, level: int) -> Edits:
    """Apply `edits` to a level; returns the edits that the level above needs."""
    path = NodePath(nodes, top, level=level)
    writer = LevelWriter(nodes, top.format, level=level)
    replaced: list[Any] = []
    done, at_end = 0, False
    while done < len(edits) or not (writer.is_at_boundary or at_end):
        if writer.is_at_boundary:
            path.seek(edits.keys[done])
            node, stop = path.node, path.count_up_to_here(edits.keys)
            after = _replace(node, edits.slice(done, stop))
            if after is not None:  # no key comes or goes, so no cut moves
                done = stop
                if after is not node:
                    replaced.append(node.keys[len(node) - 1])
                    writer.write(after)
                continue
        group, stop, at_end = _take_neighbours(path, edits)
        before = join_nodes(group)
        after = _merge(before, edits.slice(done, stop))
        done = stop
        if after is before and writer.is_at_boundary:
            continue
        replaced.extend(node.keys[len(node) - 1] for node in group if len(node))
        writer.append(after.keys, after.values)
    writer.finish()
    return _edits_above(writer, replaced, top.format)


def _take_neighbours(path: NodePath, edits: Edits) -> tuple[list[Node], int, bool]:
    """Return the node here and its right neighbors with edits; moves the path right of them.

    Also returns the end of their edits, and whether no node is left.
    """
    group: list[Node] = []
    size = 0
    while True:
        group.append(path.node)
        size += len(path.node)
        stop = path.count_up_to_here(edits.keys)
        if not path.advance():
            return group, stop, True
        if size >= _LONGEST_MERGE or path.count_up_to_here(edits.keys) == stop:
            return group, stop, False


def _replace(node: Node, edits: Edits) -> Node | None:
    """Return the node with `edits` applied, if they only replace values; the node itself if they change nothing."""
    positions, found = node.keys.locate(edits.keys)
    if (edits.is_delete | ~found).any():
        return None
    is_changed = mark_differing(node.values[positions], edits.values)
    if not is_changed.any():
        return node
    values = node.values.copy()
    values[positions] = edits.values
    return node.replace_values(values)


def apply_edits(node: Node, edits: Edits) -> Node:
    """Return the node with `edits` applied; the node itself if they change nothing."""
    replaced = _replace(node, edits)
    return _merge(node, edits) if replaced is None else replaced


def _merge(node: Node, edits: Edits) -> Node:
    """Return the node with `edits` applied; the node itself if they change nothing."""
    if not len(edits):
        return node
    positions, found = node.keys.locate(edits.keys)
    replaced = found & ~edits.is_delete
    replaced[replaced] = mark_differing(node.values[positions[replaced]], edits.values[replaced])
    removed = found & edits.is_delete
    added = ~found & ~edits.is_delete
    if not (replaced | removed | added).any():
        return node
    # `source` gives the origin of each item: the node's items, then the edits, -1 for none
    source = np.arange(len(node))
    source[positions[replaced]] = len(node) + np.flatnonzero(replaced)
    source[positions[removed]] = -1
    source = _insert(source, positions[added], len(node) + np.flatnonzero(added))
    source = source[source >= 0]
    keys = node.keys.concat([edits.keys]).take(source)
    values = np.concatenate([node.values, edits.values])[source]
    return Node(node.format, node.level, keys=keys, values=values)


def _insert(array: NDArray[np.int64], positions: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(values):
        return array
    indices = positions + np.arange(len(values))
    joined = np.empty(len(array) + len(values), np.int64)
    is_old = np.ones(len(joined), np.bool_)
    is_old[indices] = False
    joined[indices] = values
    joined[is_old] = array
    return joined


def _edits_above(writer: LevelWriter, replaced: list[Any], tree_format: TreeFormat) -> Edits:
    keys, values = writer.written()
    old = tree_format.make_keys(replaced)
    _, kept = keys.locate(old)
    return _sorted_edits(keys, values, deletes=old.take(np.flatnonzero(~kept)))


def _sorted_edits(put_keys: Keys, put_values: NDArray[np.uint8], *, deletes: Keys) -> Edits:
    keys = put_keys.concat([deletes])
    values = np.concatenate([put_values, np.zeros((len(deletes), put_values.shape[1]), np.uint8)])
    is_delete = np.arange(len(keys)) >= len(put_keys)
    if keys.is_strictly_sorted():
        return Edits(keys, values, is_delete)
    order = keys.argsort()
    return Edits(keys.take(order), values[order], is_delete[order])
