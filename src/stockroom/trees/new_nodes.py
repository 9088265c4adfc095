"""The nodes that one tree has and another lacks, which must be sent to a holder of the other.

Both trees are descended together, a level at a time. Shared nodes are not read, so the cost follows the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.trees.node import Node, decode_node
from stockroom.trees.tree import Tree

_NODES_AT_ONCE = 256
_VALUES_AT_ONCE = 1 << 16
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class NewNodes:
    """Some of the new nodes; `values` `(n, width)` are those of their leaves that no replaced leaf had."""

    digests: list[ObjectDigest]
    values: NDArray[np.uint8]


def iter_new_nodes(tree: Tree, base: Tree | None, *, with_values: bool = True) -> Iterator[NewNodes]:
    """Yield the nodes of `tree` that `base` lacks (all, if None), from the root down, in batches.

    Without values no leaf is read, unless it is a root. A node that `base` has in another place may be included: that
    is rare, and harmless.
    """
    new, old = [tree.root], [] if base is None else [base.root]
    level = _read_level(tree, new)
    old_level = _read_level(base, old) if base is not None else -1
    while level >= 0:
        while base is not None and old_level > level:
            old, old_level = _list_children(base, old), old_level - 1
        known, wanted = (set(old), set(new)) if old_level == level else (set(), set())
        replaced = [digest for digest in old if digest not in wanted] if old_level == level else []
        fresh = [digest for digest in new if digest not in known]
        if level:
            if fresh:
                yield NewNodes(fresh, _no_values(tree))
            new, level = _list_children(tree, fresh), level - 1
            if base is not None and old_level > level:
                old, old_level = _list_children(base, replaced), old_level - 1
            continue
        before = _ValueSet(_join_values(base, replaced)) if base is not None and with_values else None
        for start in range(0, len(fresh), _NODES_AT_ONCE):
            some = fresh[start : start + _NODES_AT_ONCE]
            values = _join_values(tree, some if with_values else ())
            yield NewNodes(some, values if before is None else values[~before.contains(values)])
        return


def _read_level(tree: Tree, digests: Sequence[ObjectDigest]) -> int:
    return tree.nodes.read(digests[0]).level


def _list_children(tree: Tree, digests: Sequence[ObjectDigest]) -> list[ObjectDigest]:
    return [ObjectDigest(child) for node in _iter_nodes(tree, digests) for child in node.child_digests]


def _iter_nodes(tree: Tree, digests: Sequence[ObjectDigest]) -> Iterator[Node]:
    for start in range(0, len(digests), _NODES_AT_ONCE):
        yield from map(decode_node, tree.nodes.get_objects(digests[start : start + _NODES_AT_ONCE]))


def _join_values(tree: Tree, leaves: Sequence[ObjectDigest]) -> NDArray[np.uint8]:
    values = [node.values for node in _iter_nodes(tree, leaves)]
    return np.concatenate(values) if values else _no_values(tree)


def _no_values(tree: Tree) -> NDArray[np.uint8]:
    return np.empty((0, tree.format.value_width), np.uint8)


class _ValueSet:
    """Values of one width, sorted by fingerprint. Two values of one fingerprint, which is rare, may hide each other."""

    def __init__(self, values: NDArray[np.uint8]) -> None:
        prints = _fingerprint(values)
        self._order = prints.argsort()
        self._prints = prints[self._order]
        self._values = values

    def contains(self, values: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether each value is in the set, as `(n,)`; False in the rare case that another hides it."""
        if not len(self._values) or values.shape[1] != self._values.shape[1] or not values.shape[1]:
            return np.zeros(len(values), np.bool_)
        prints = _fingerprint(values)
        order = prints.argsort()  # a search in order stays in the processor's cache
        at = np.minimum(self._prints.searchsorted(prints[order]), len(self._prints) - 1)
        is_likely = self._prints[at] == prints[order]
        likely = order[is_likely]
        is_here = np.zeros(len(values), np.bool_)
        is_here[likely] = (self._values[self._order[at[is_likely]]] == values[likely]).all(axis=1)
        return is_here


def _fingerprint(values: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return 64 bits for each value `(n,)`: the sum of its words, each times an odd number of its place."""
    prints = np.zeros(len(values), np.uint64)
    for start in range(0, len(values), _VALUES_AT_ONCE):
        some = values[start : start + _VALUES_AT_ONCE]
        words = np.zeros((len(some), -(-values.shape[1] // 8)), "<u8")
        words.view(np.uint8)[:, : values.shape[1]] = some
        for place in range(words.shape[1]):
            prints[start : start + len(some)] += words[:, place] * np.uint64((place + 1) * _GOLDEN & _MASK | 1)
    return prints
