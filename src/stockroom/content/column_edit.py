"""Uncommitted changes to one column: a tree, and the edits not yet applied to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.digest import ObjectDigest
from stockroom.trees import Key, KeysLike, NodeCache, Tree

_MAX_UNAPPLIED = 1 << 16


@dataclass(frozen=True, slots=True)
class Savepoint:
    """A point in an edit to return to."""

    record: ColumnRecord
    tree: Tree
    unapplied: Mapping[Key, bytes | None]


@dataclass(slots=True)
class ColumnEdit:
    """A column being written, with entries of its tree's width. `staged` is its record in the stage, or None.

    `puts` counts the calls that set entries, so that a writer sees whether another has come between its own. `appended`
    are the keys that it gave to samples itself, behind the greatest key, since the last commit.
    """

    nodes: NodeCache
    record: ColumnRecord
    staged: ColumnRecord | None = None
    puts: int = 0
    appended: range = range(0)
    _tree: Tree = field(init=False)
    _unapplied: dict[Key, bytes | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._tree = Tree(self.nodes, self.record.tree_format, ObjectDigest(self.record.root))

    @property
    def tree(self) -> Tree:
        """The column's tree with all edits applied."""
        if self._unapplied:
            self._apply()
        return self._tree

    def find(self, key: Key) -> bytes | None:
        """Return the entry of a key, or None."""
        if key in self._unapplied:
            return self._unapplied[key]
        return self._tree.get(key)

    def put(self, key: Key, entry: bytes) -> None:
        """Set one entry."""
        self._unapplied[key] = entry
        self.puts += 1
        if len(self._unapplied) >= _MAX_UNAPPLIED:
            self._apply()

    def put_many(self, keys: KeysLike, entries: NDArray[np.uint8]) -> None:
        """Set the entries `(n, width)` of n distinct keys."""
        self._tree = self.tree.edit(keys, entries)
        self.puts += 1

    def delete(self, key: Key) -> None:
        """Remove a key if it exists."""
        self._unapplied[key] = None

    def clear(self) -> None:
        """Remove all keys."""
        self._unapplied = {}
        self._tree = Tree.empty(self.nodes, self.record.tree_format)

    def adopt(self, other: ColumnEdit) -> None:
        """Replace all keys and entries with those of another edit of the same schema."""
        self._tree = other.tree
        self._unapplied = {}
        self.puts += 1
        self.appended = range(0)

    def note_appended(self, keys: range) -> None:
        """Note that these keys were given to appended samples; only the last keys without a gap are remembered."""
        if keys:
            is_next = self.appended and keys.start == self.appended.stop
            self.appended = range(self.appended.start if is_next else keys.start, keys.stop)

    def save(self) -> Savepoint:
        """Return the current point."""
        return Savepoint(self.record, self._tree, dict(self._unapplied))

    def restore(self, savepoint: Savepoint) -> None:
        """Return to a saved point."""
        self.record, self._tree, self._unapplied = savepoint.record, savepoint.tree, dict(savepoint.unapplied)

    def finish(self) -> ColumnRecord:
        """Return the column's record with all edits applied."""
        root = self.tree.root
        return self.record if root == self.record.root else self.record.replace_root(root)

    @property
    def is_changed(self) -> bool:
        """Whether the record differs from the stage's; 1, 1.0 and True in attrs count as different."""
        if self.staged is self.record:
            return False
        if self.staged is None or self.record != self.staged:
            return True
        return bool(self.record.attrs) and self.record.encode() != self.staged.encode()

    def _apply(self) -> None:
        puts = {key: entry for key, entry in self._unapplied.items() if entry is not None}
        deletes = [key for key, entry in self._unapplied.items() if entry is None]
        values = np.frombuffer(b"".join(puts.values()), np.uint8).reshape(len(puts), self._tree.format.value_width)
        self._tree = self._tree.edit(list(puts), values, deletes=deletes)  # type: ignore[arg-type]
        self._unapplied = {}
