"""Three-way merge of keys and their values: what becomes of each key, and which are in conflict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.edit import Edits, make_edits
from stockroom.trees.format import TreeFormat
from stockroom.trees.keys import Key, Keys
from stockroom.trees.rows import mark_differing

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


@final
class Decisions:
    """What becomes of each key in conflict; asks about each only once."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._known: dict[Key, Resolution | None] = {}
        self._open: list[KeyConflict] = []

    @property
    def open(self) -> tuple[KeyConflict, ...]:
        """The conflicts that were left."""
        return tuple(self._open)

    def decide(self, conflict: KeyConflict) -> Resolution | None:
        """Return what becomes of a key, or None if it stays in conflict."""
        if conflict.key not in self._known:
            resolution = self._known[conflict.key] = self._resolve(conflict)
            if resolution is None:
                self._open.append(conflict)
        return self._known[conflict.key]


@dataclass(frozen=True, slots=True)
class KeyValues:
    """The values of some keys: which exist `(n,)`, and their values `(n, width)`, zeros if missing."""

    found: NDArray[np.bool_]
    values: Rows

    def equals(self, other: KeyValues) -> NDArray[np.bool_]:
        """Return where both sides have the same."""
        is_same: NDArray[np.bool_] = (self.found == other.found) & ~mark_differing(self.values, other.values)
        return is_same

    def at(self, row: int) -> bytes | None:
        """Return the value of one key, or None."""
        return self.values[row].tobytes() if self.found[row] else None

    def take(self, rows: NDArray[np.int64]) -> KeyValues:
        """Return the same of the keys at `rows`."""
        return KeyValues(self.found[rows], self.values[rows])


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Keys that their side changed, with their values before and after."""

    keys: Keys
    before: KeyValues
    after: KeyValues

    def take(self, rows: NDArray[np.int64]) -> KeyChange:
        """Return the same of the keys at `rows`."""
        return KeyChange(self.keys.take(rows), self.before.take(rows), self.after.take(rows))


@dataclass(slots=True)
class KeyMerge:
    """The edits that bring their changes into ours, collected during a merge."""

    format: TreeFormat
    decisions: Decisions
    put_keys: list[Keys] = field(default_factory=list)
    put_values: list[Rows] = field(default_factory=list)
    deletes: list[Keys] = field(default_factory=list)

    def take(self, change: KeyChange, ours: KeyValues) -> None:
        """Adopt their change of each key that ours left alone; keys that both changed are in conflict."""
        is_done = ours.equals(change.after)
        is_free = ours.equals(change.before) & ~is_done
        self._put(change.keys, change.after, is_free)
        for row in np.flatnonzero(~is_free & ~is_done).tolist():
            self._decide(change.keys, row, change.before.at(row), ours.at(row), change.after.at(row))

    def take_disputed(self, keys: Keys, ours: KeyValues, after: KeyValues) -> None:
        """Decide those of these keys in which the sides differ."""
        for row in np.flatnonzero(~ours.equals(after)).tolist():
            self._decide(keys, row, None, ours.at(row), after.at(row))

    def edits(self) -> Edits:
        """Return all edits so far."""
        nothing = self.format.make_keys(())
        values = np.concatenate([np.empty((0, self.format.value_width), np.uint8), *self.put_values])
        return make_edits(nothing.concat(self.put_keys), values, deletes=nothing.concat(self.deletes))

    def _put(self, keys: Keys, after: KeyValues, chosen: NDArray[np.bool_]) -> None:
        puts, deletes = np.flatnonzero(chosen & after.found), np.flatnonzero(chosen & ~after.found)
        self.put_keys.append(keys.take(puts))
        self.put_values.append(after.values[puts])
        self.deletes.append(keys.take(deletes))

    def _decide(self, keys: Keys, row: int, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> None:
        resolution = self.decisions.decide(KeyConflict(keys[row], base, ours, theirs))
        if resolution is None:
            return
        if resolution.value is None:
            self.deletes.append(keys.slice(row, row + 1))
        else:
            self.put_keys.append(keys.slice(row, row + 1))
            self.put_values.append(np.frombuffer(resolution.value, np.uint8).reshape(1, -1))
