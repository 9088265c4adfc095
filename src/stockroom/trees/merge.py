"""Three-way merge of trees, driven by differences: parts that neither side changed are never read.

It walks the difference from the base to their tree, and looks up only its keys in ours. Every other key stays as ours
has it, so no other change of ours need be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.diff import DiffBatch, diff_trees
from stockroom.trees.keys import Key, Keys
from stockroom.trees.tree import Tree

Rows: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """A key that the sides changed differently: its value in each tree, or None if it is missing there."""

    key: Key
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result for a key in conflict: a value, or None to delete it."""

    value: bytes | None


Resolve: TypeAlias = Callable[[KeyConflict], Resolution | None]
"""Resolves a conflict, or returns None to leave it."""


@dataclass(frozen=True, slots=True)
class MergedTree:
    """The tree with all changes of both sides; keys in `conflicts` are as in `ours`."""

    tree: Tree
    conflicts: tuple[KeyConflict, ...]


def merge_trees(base: Tree, ours: Tree, theirs: Tree, resolve: Resolve, disputed: Iterable[Key] = ()) -> MergedTree:
    """Merge the changes of both sides into `base`; equal changes are no conflict.

    Reads and writes O(changes * depth) nodes; new nodes go to the store of `ours`. `disputed` are keys with no agreed
    value in `base`: they are in conflict if the two sides differ.
    """
    unknown = frozenset(disputed)
    if theirs.root == ours.root or (theirs.root == base.root and not unknown):
        return MergedTree(ours, ())
    if base.root == ours.root and not unknown:
        return MergedTree(theirs, ())
    merge = _Merge(ours, resolve)
    for batch in diff_trees(base, theirs):
        change = _lay_out(batch, base, theirs)
        merge.take(change if not unknown else change.keep(_is_outside(change.keys, unknown)))
    if unknown:
        merge.take_disputed(theirs, ours.format.make_keys(list(unknown)))  # type: ignore[arg-type]
    return merge.finish()


@dataclass(frozen=True, slots=True)
class _KeyValues:
    """The values of some keys: which exist `(n,)`, and their values `(n, width)`, zeros if missing."""

    found: NDArray[np.bool_]
    values: Rows

    def equals(self, other: _KeyValues) -> NDArray[np.bool_]:
        """Return where both sides have the same."""
        is_same: NDArray[np.bool_] = (self.found == other.found) & (self.values == other.values).all(axis=1)
        return is_same

    def at(self, row: int) -> bytes | None:
        """Return the value of one key, or None."""
        return self.values[row].tobytes() if self.found[row] else None

    def keep(self, chosen: NDArray[np.bool_]) -> _KeyValues:
        """Return the same of the chosen keys."""
        return _KeyValues(self.found[chosen], self.values[chosen])


@dataclass(frozen=True, slots=True)
class _Change:
    """Keys that their side changed, with their values before and after."""

    keys: Keys
    before: _KeyValues
    after: _KeyValues

    def keep(self, chosen: NDArray[np.bool_]) -> _Change:
        """Return the same of the chosen keys."""
        keys = self.keys.take(np.flatnonzero(chosen))
        return _Change(keys, self.before.keep(chosen), self.after.keep(chosen))


@dataclass(slots=True)
class _Merge:
    """The edits of `ours`, collected during the merge."""

    ours: Tree
    resolve: Resolve
    put_keys: list[Keys] = field(default_factory=list)
    put_values: list[Rows] = field(default_factory=list)
    deletes: list[Keys] = field(default_factory=list)
    conflicts: list[KeyConflict] = field(default_factory=list)

    def take(self, change: _Change) -> None:
        """Adopt their change of each key that ours left alone; keys that both changed are in conflict."""
        ours = self._look_up(change.keys)
        is_done = ours.equals(change.after)
        is_free = ours.equals(change.before) & ~is_done
        self._put(change.keys, change.after, is_free)
        for row in np.flatnonzero(~is_free & ~is_done).tolist():
            self._decide(change.keys, row, change.before.at(row), ours.at(row), change.after.at(row))

    def take_disputed(self, theirs: Tree, keys: Keys) -> None:
        """Decide those of these keys in which the sides differ."""
        ours, after = self._look_up(keys), _KeyValues(*theirs.get_many(keys.batch))
        for row in np.flatnonzero(~ours.equals(after)).tolist():
            self._decide(keys, row, None, ours.at(row), after.at(row))

    def finish(self) -> MergedTree:
        """Return the merged tree."""
        nothing = self.ours.format.make_keys(())
        values = np.concatenate([np.empty((0, self.ours.format.value_width), np.uint8), *self.put_values])
        puts, deletes = nothing.concat(self.put_keys), nothing.concat(self.deletes)
        return MergedTree(self.ours.edit(puts.batch, values, deletes=deletes.batch), tuple(self.conflicts))

    def _look_up(self, keys: Keys) -> _KeyValues:
        return _KeyValues(*self.ours.get_many(keys.batch))

    def _put(self, keys: Keys, after: _KeyValues, chosen: NDArray[np.bool_]) -> None:
        puts, deletes = np.flatnonzero(chosen & after.found), np.flatnonzero(chosen & ~after.found)
        self.put_keys.append(keys.take(puts))
        self.put_values.append(after.values[puts])
        self.deletes.append(keys.take(deletes))

    def _decide(self, keys: Keys, row: int, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> None:
        conflict = KeyConflict(keys[row], base, ours, theirs)
        resolution = self.resolve(conflict)
        if resolution is None:
            self.conflicts.append(conflict)
        elif resolution.value is None:
            self.deletes.append(keys.slice(row, row + 1))
        else:
            self.put_keys.append(keys.slice(row, row + 1))
            self.put_values.append(np.frombuffer(resolution.value, np.uint8).reshape(1, -1))


def _lay_out(batch: DiffBatch, base: Tree, theirs: Tree) -> _Change:
    """Return a batch of differences as one list of keys, with the values of both trees."""
    kinds = [batch.added_keys, batch.removed_keys, batch.changed_keys]
    added, removed, changed = counts = [len(keys) for keys in kinds]
    keys = theirs.format.make_keys(()).concat([theirs.format.make_keys(some) for some in kinds])
    nothing = [np.zeros((count, theirs.format.value_width), np.uint8) for count in counts]
    before = [nothing[0], base.get_many(batch.removed_keys)[1] if removed else nothing[1], batch.old_values]
    after = [theirs.get_many(batch.added_keys)[1] if added else nothing[0], nothing[1], batch.new_values]
    return _Change(
        keys,
        _KeyValues(np.repeat([False, True, True], [added, removed, changed]), np.concatenate(before)),
        _KeyValues(np.repeat([True, False, True], [added, removed, changed]), np.concatenate(after)),
    )


def _is_outside(keys: Keys, some: frozenset[Key]) -> NDArray[np.bool_]:
    return np.fromiter((keys[row] not in some for row in range(len(keys))), np.bool_, len(keys))
