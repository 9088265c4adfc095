"""The differences between two trees, found by reading only the parts that differ.

Both trees are descended together, level by level. Children that both have under the same key with the same digest are
dropped: everything below them is equal. The rest is compared a window of keys at a time, so memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError
from stockroom.trees.keys import Key, KeyBatch
from stockroom.trees.node import Node, empty_node, join_nodes, parent_of_root
from stockroom.trees.rows import mark_differing
from stockroom.trees.store import NodeCache
from stockroom.trees.tree import Tree

_WINDOW = 32  # nodes of one tree looked at together


@dataclass(frozen=True, slots=True)
class DiffBatch:
    """Differences among neighboring keys; each kind in key order, and batches in key order.

    `old_values` and `new_values` belong to `changed_keys`, each as `(n, value_width)` of its own tree.
    """

    added_keys: KeyBatch
    removed_keys: KeyBatch
    changed_keys: KeyBatch
    old_values: NDArray[np.uint8]
    new_values: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.added_keys) + len(self.removed_keys) + len(self.changed_keys)


@dataclass(frozen=True, slots=True)
class _Span:
    """Keys above `above` and up to `upto`, inclusive; None for no bound."""

    above: Key | None = None
    upto: Key | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """One tree's items of some level within a span: children, or keys and values if the level is 0."""

    nodes: NodeCache
    items: Node

    @property
    def level(self) -> int:
        return self.items.level

    def __len__(self) -> int:
        return len(self.items)

    def keep(self, chosen: NDArray[np.bool_]) -> _Side:
        """Return the side with only the chosen items."""
        return self if chosen.all() else _Side(self.nodes, self.items.take(np.flatnonzero(chosen)))

    def expand(self, span: _Span) -> _Side:
        """Return the items one level down that may lie within `span`."""
        start, stop = _reach(self.items, span)
        if start == stop:
            return _Side(self.nodes, empty_node(self.items.format, self.level - 1))
        below = join_nodes(self.nodes.read_children(self.items, range(start, stop)))
        return _Side(self.nodes, below.slice(*_reach(below, span)))

    def window_end(self, above: Key | None) -> Key | None:
        """Return the last key of the window of items after `above`; None if it covers all the remaining items."""
        keys = self.items.keys
        stop = _WINDOW + (0 if above is None else keys.count_up_to(above))
        return keys[stop - 1] if stop < len(keys) else None


def diff_trees(old: Tree, new: Tree) -> Iterator[DiffBatch]:
    """Return the differences from `old` to `new`, in key order, lazily; never an empty batch.

    Reads O(changes * depth) nodes. Trees of different value widths differ in every common key. Raises
    `InvalidInputError` at once if the key types differ.
    """
    if old.format.key_type is not new.format.key_type:
        raise InvalidInputError(
            f"diff: expected trees of one key type, found {old.format.key_type.value} keys "
            f"and {new.format.key_type.value} keys"
        )
    if old.root == new.root:
        return iter(())
    return _walk(_whole(old), _whole(new), _Span())


def _whole(tree: Tree) -> _Side:
    return _Side(tree.nodes, parent_of_root(tree.top, tree.root))


def _walk(old: _Side, new: _Side, span: _Span) -> Iterator[DiffBatch]:
    level = max(old.level, new.level)
    if not level:
        yield from _compare(old.items, new.items)
        return
    if old.level == new.level:
        old, new = _drop_common(old, new)
    if not len(old) and not len(new):
        return
    # the taller tree goes down alone until both are level
    for part in _iter_windows([side for side in (old, new) if side.level == level], span):
        old_part = old.expand(part) if old.level == level else old
        new_part = new.expand(part) if new.level == level else new
        yield from _walk(old_part, new_part, part)


def _iter_windows(sides: list[_Side], span: _Span) -> Iterator[_Span]:
    """Yield `span` in parts that each cover at most a window of items, and one item more, of every side."""
    above = span.above
    while True:
        ends: list[Any] = [end for side in sides if (end := side.window_end(above)) is not None]
        if not ends:
            yield _Span(above, span.upto)
            return
        upto = min(ends)
        yield _Span(above, upto)
        above = upto


def _reach(items: Node, span: _Span) -> tuple[int, int]:
    """Return which items may lie within `span`; above the leaves this includes one that extends past its end."""
    keys = items.keys
    start = 0 if span.above is None else keys.count_up_to(span.above)
    if span.upto is None:
        return start, len(keys)
    if not items.level:
        return start, keys.count_up_to(span.upto)
    return start, max(start, min(keys.find(span.upto) + 1, len(keys)))


def _drop_common(old: _Side, new: _Side) -> tuple[_Side, _Side]:
    """Return both sides without the children they share."""
    if old.items.keys.equals(new.items.keys):
        is_changed = mark_differing(old.items.values, new.items.values)
        return old.keep(is_changed), new.keep(is_changed)
    indices, found = old.items.keys.locate(new.items.keys)
    found[found] = (old.items.values[indices[found]] == new.items.values[found]).all(axis=1)
    is_left = np.ones(len(old), np.bool_)
    is_left[indices[found]] = False
    return old.keep(is_left), new.keep(~found)


def _compare(old: Node, new: Node) -> Iterator[DiffBatch]:
    if old.keys.equals(new.keys):
        old, new = _keep_changed(old, new)
    indices, found = old.keys.locate(new.keys)
    common_old, common_new = indices[found], np.flatnonzero(found)
    is_removed = np.ones(len(old), np.bool_)
    is_removed[common_old] = False
    old_values, new_values = old.values[common_old], new.values[common_new]
    is_changed = _mark_changed(old_values, new_values)
    batch = DiffBatch(
        added_keys=new.keys.take(np.flatnonzero(~found)).batch,
        removed_keys=old.keys.take(np.flatnonzero(is_removed)).batch,
        changed_keys=new.keys.take(common_new[is_changed]).batch,
        old_values=old_values[is_changed],
        new_values=new_values[is_changed],
    )
    if len(batch):
        yield batch


def _keep_changed(old: Node, new: Node) -> tuple[Node, Node]:
    """Return the items of two leaves of the same keys that differ."""
    is_changed = _mark_changed(old.values, new.values)
    if is_changed.all():
        return old, new
    rows = np.flatnonzero(is_changed)
    return old.take(rows), new.take(rows)


def _mark_changed(old_values: NDArray[np.uint8], new_values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    if old_values.shape != new_values.shape:
        return np.ones(len(old_values), np.bool_)
    return mark_differing(old_values, new_values)


def find_unshared_key(one: Tree, other: Tree) -> Key | None:
    """Return a key that only one of two trees has; None if they have the same keys. May read all leaves of both."""
    if one.count == other.count and one.dense_start is not None and one.dense_start == other.dense_start:
        return None
    for batch in diff_trees(one, other):
        for keys in (batch.added_keys, batch.removed_keys):
            if len(keys):
                return keys.tolist()[0] if isinstance(keys, np.ndarray) else keys[0]
    return None
