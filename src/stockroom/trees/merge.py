"""Three-way merge of trees, driven by their differences: what neither side changed is never looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stockroom.trees.diff import diff_trees
from stockroom.trees.keys import Key, KeyBatch
from stockroom.trees.tree import Tree


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """A key that both sides changed, and not alike: its value in each tree, None where it is not there."""

    key: Key
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a key in conflict becomes: a value, or None to take it out."""

    value: bytes | None


Settle: TypeAlias = Callable[[KeyConflict], Settled | None]
"""Settles a conflict, or leaves it, by None."""


@dataclass(frozen=True, slots=True)
class MergedTree:
    """The tree with all changes of both sides; where `conflicts` are left, it is as `ours`."""

    tree: Tree
    conflicts: tuple[KeyConflict, ...]


def merge_trees(base: Tree, ours: Tree, theirs: Tree, settle: Settle) -> MergedTree:
    """What becomes of `base` with the changes of both sides; equal changes are no conflict.

    Reads and writes O(changes * depth) nodes, and puts what is new where `ours` keeps its nodes.
    """
    if theirs.root in (base.root, ours.root):
        return MergedTree(ours, ())
    if base.root == ours.root:
        return MergedTree(theirs, ())
    mine = collect_changes(base, ours)
    puts: dict[Key, bytes] = {}
    deletes: list[Key] = []
    left: list[KeyConflict] = []
    for key, (old, new) in collect_changes(base, theirs).items():
        if key in mine:
            value = mine[key][1]
            if value == new:
                continue
            conflict = KeyConflict(key, old, value, new)
            settled = settle(conflict)
            if settled is None:
                left.append(conflict)
                continue
            new = settled.value
        if new is None:
            deletes.append(key)
        else:
            puts[key] = new
    return MergedTree(_edit(ours, puts, deletes), tuple(left))


def collect_changes(old: Tree, new: Tree) -> dict[Key, tuple[bytes | None, bytes | None]]:
    """Key -> its value before and after, in key order within each kind, for every key that differs."""
    changes: dict[Key, tuple[bytes | None, bytes | None]] = {}
    for batch in diff_trees(old, new):
        for key, value in _iter_values(old, batch.removed_keys):
            changes[key] = (value, None)
        for key, value in _iter_values(new, batch.added_keys):
            changes[key] = (None, value)
        rows = zip(_plain(batch.changed_keys), batch.old_values, batch.new_values, strict=True)
        changes.update((key, (before.tobytes(), after.tobytes())) for key, before, after in rows)
    return changes


def _edit(tree: Tree, puts: dict[Key, bytes], deletes: list[Key]) -> Tree:
    values = np.frombuffer(b"".join(puts.values()), np.uint8).reshape(len(puts), tree.format.value_width)
    return tree.edit(list(puts), values, deletes=deletes)  # type: ignore[arg-type]


def _iter_values(tree: Tree, keys: KeyBatch) -> Iterator[tuple[Key, bytes]]:
    _, values = tree.get_many(keys)
    for key, value in zip(_plain(keys), values, strict=True):
        yield key, value.tobytes()


def _plain(keys: KeyBatch) -> list[Key]:
    return keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
