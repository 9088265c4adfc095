"""Three-way merge of trees: parts that only one side changed, or none, are never read.

Trees of one height are merged part by part (`merge_parts`). Otherwise the difference from the base to their tree is
walked, and its keys are looked up in ours. Every other key stays as ours has it, so no other change of ours need be
known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.trees.diff import DiffBatch, diff_trees
from stockroom.trees.edit import edit_root
from stockroom.trees.keys import Key, Keys
from stockroom.trees.merge_keys import Decisions, KeyChange, KeyConflict, KeyMerge, KeyValues, Resolution, Resolve
from stockroom.trees.merge_parts import merge_parts
from stockroom.trees.tree import Tree

__all__ = ["KeyConflict", "MergedTree", "Resolution", "Resolve", "merge_trees"]


@dataclass(frozen=True, slots=True)
class MergedTree:
    """The tree with all changes of both sides; keys in `conflicts` are as in `ours`."""

    tree: Tree
    conflicts: tuple[KeyConflict, ...]


def merge_trees(base: Tree, ours: Tree, theirs: Tree, resolve: Resolve, disputed: Iterable[Key] = ()) -> MergedTree:
    """Merge the changes of both sides into `base`; equal changes are no conflict.

    Reads and writes O(changes * depth) nodes; new nodes go to the store of `ours`, which has those of `theirs`.
    `disputed` are keys with no agreed value in `base`: they are in conflict if the two sides differ.
    """
    unknown = frozenset(disputed)
    if theirs.root == ours.root or (theirs.root == base.root and not unknown):
        return MergedTree(ours, ())
    if base.root == ours.root and not unknown:
        return MergedTree(theirs, ())
    decisions = Decisions(resolve)
    root = None if unknown else merge_parts(base, ours, theirs, decisions)
    if root is None:
        root = _merge_by_key(base, ours, theirs, decisions, unknown)
    return MergedTree(Tree(ours.nodes, ours.format, ours.root if root is None else root), decisions.open)


def _merge_by_key(
    base: Tree, ours: Tree, theirs: Tree, decisions: Decisions, unknown: frozenset[Key]
) -> ObjectDigest | None:
    """Return the root of the merged tree; None if it is ours."""
    merge = KeyMerge(ours.format, decisions)
    for batch in diff_trees(base, theirs):
        change = _lay_out(batch, base, theirs)
        change = change.take(np.flatnonzero(_is_outside(change.keys, unknown))) if unknown else change
        merge.take(change, KeyValues(*ours.get_many(change.keys.batch)))
    if unknown:
        keys = ours.format.make_keys(list(unknown))  # type: ignore[arg-type]
        sides = [KeyValues(*tree.get_many(keys.batch)) for tree in (ours, theirs)]
        merge.take_disputed(keys, *sides)
    return edit_root(ours.nodes, ours.top, merge.edits())


def _lay_out(batch: DiffBatch, base: Tree, theirs: Tree) -> KeyChange:
    """Return a batch of differences as one list of keys, with the values of both trees."""
    kinds = [batch.added_keys, batch.removed_keys, batch.changed_keys]
    added, removed, changed = counts = [len(keys) for keys in kinds]
    keys = theirs.format.make_keys(()).concat([theirs.format.make_keys(some) for some in kinds])
    nothing = [np.zeros((count, theirs.format.value_width), np.uint8) for count in counts]
    before = [nothing[0], base.get_many(batch.removed_keys)[1] if removed else nothing[1], batch.old_values]
    after = [theirs.get_many(batch.added_keys)[1] if added else nothing[0], nothing[1], batch.new_values]
    return KeyChange(
        keys,
        KeyValues(np.repeat([False, True, True], [added, removed, changed]), np.concatenate(before)),
        KeyValues(np.repeat([True, False, True], [added, removed, changed]), np.concatenate(after)),
    )


def _is_outside(keys: Keys, some: frozenset[Key]) -> NDArray[np.bool_]:
    return np.fromiter((keys[row] not in some for row in range(len(keys))), np.bool_, len(keys))
