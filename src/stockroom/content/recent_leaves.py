"""The leaves that a walk has followed lately, so that a commit that adds one sample costs one look-up.

The next version of a leaf has nearly the same entries. It usually begins with the same key.

Kept apart: the walk says what refers to what, and needs no memory of it to be right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.trees import Key, KeyBatch, Node

_CAPACITY: Final = 2048  # leaves, about 16 KiB each


class RecentLeaves:
    """Leaves by the place of their tree and their first key, the least recently used dropped first."""

    def __init__(self) -> None:
        self._leaves: OrderedDict[tuple[Hashable, Key], Node] = OrderedDict()

    def list_fresh(self, place: Hashable, leaf: Node) -> NDArray[np.int64]:
        """Return the rows of a leaf, except those that the leaf it may replace has under the same keys."""
        before = self._leaves.get((place, leaf.keys[0])) if len(leaf) else None
        if before is None or before.format != leaf.format:
            return np.arange(len(leaf))
        if len(leaf) < len(before) and _are_prefix(leaf, before):
            return np.empty(0, np.int64)
        if _are_equal(before.keys.batch, leaf.keys.batch):
            return np.flatnonzero((before.values != leaf.values).any(axis=1))
        rows, is_known = before.keys.locate(leaf.keys)
        is_known[is_known] = (before.values[rows[is_known]] == leaf.values[is_known]).all(axis=1)
        return np.flatnonzero(~is_known)

    def add(self, place: Hashable, leaf: Node) -> None:
        """Take a leaf as followed."""
        if len(leaf):
            self._leaves[place, leaf.keys[0]] = leaf
            self._leaves.move_to_end((place, leaf.keys[0]))
            if len(self._leaves) > _CAPACITY:
                self._leaves.popitem(last=False)

    def clear(self) -> None:
        """Take no leaf as followed."""
        self._leaves.clear()


class RecentEntries:
    """The entries of leaves of one format, without their keys, by the first: most versions of a leaf share it."""

    def __init__(self) -> None:
        self._values: OrderedDict[bytes, bytes] = OrderedDict()

    def list_fresh(self, values: bytes, width: int) -> bytes:
        """Return the values, of one width, that the version followed last does not have, and remember this one."""
        first = values[:width]
        before = self._values.get(first, b"")
        if before.startswith(values):  # after an append: a walk meets the newest version first
            return b""
        self._values[first] = values
        self._values.move_to_end(first)
        if len(self._values) > _CAPACITY:
            self._values.popitem(last=False)
        if not before:
            return values
        known = set(split_values(before, width))
        return b"".join(value for value in split_values(values, width) if value not in known)


def split_values(values: bytes, width: int) -> Iterator[bytes]:
    """Yield the values of one width that are joined in `values`."""
    return (values[start : start + width] for start in range(0, len(values), width))


def _are_prefix(leaf: Node, before: Node) -> bool:
    """Return whether `before` has the items of `leaf`, then others: a walk meets the newest version first."""
    return _are_equal(leaf.keys.batch, before.keys.slice(0, len(leaf)).batch) and (
        leaf.values.tobytes() == before.values[: len(leaf)].tobytes()
    )


def _are_equal(one: KeyBatch, other: KeyBatch) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return one == other
