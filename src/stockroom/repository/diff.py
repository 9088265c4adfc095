"""What differs between two snapshots, column by column; read only as far as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stockroom.digest import ObjectDigest
from stockroom.repository.column import ColumnRecord
from stockroom.repository.snapshot import Snapshot
from stockroom.trees import DiffBatch, Key, KeyBatch, diff_trees, iter_range


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """How many keys were added, removed and changed."""

    added: int
    removed: int
    changed: int


class ColumnDiff:
    """One column's difference. `kind` is `added`, `removed`, `changed`, or `schema` where samples cannot be compared.

    `added`, `removed` and `changed` iterate keys in key order, lazily, anew each time.
    """

    def __init__(self, old: tuple[Snapshot, ColumnRecord] | None, new: tuple[Snapshot, ColumnRecord] | None) -> None:
        self._old = old
        self._new = new

    @property
    def kind(self) -> str:
        """What happened to the column as a whole."""
        if self._old is None:
            return "added"
        if self._new is None:
            return "removed"
        return "changed" if self._old[1].schema == self._new[1].schema else "schema"

    @property
    def old(self) -> ColumnRecord | None:
        """The column's record before."""
        return None if self._old is None else self._old[1]

    @property
    def new(self) -> ColumnRecord | None:
        """The column's record after."""
        return None if self._new is None else self._new[1]

    @property
    def added(self) -> Iterator[Key]:
        """Keys only the new side has."""
        for batch in self._iter_batches():
            yield from _plain(batch.added_keys)

    @property
    def removed(self) -> Iterator[Key]:
        """Keys only the old side has."""
        for batch in self._iter_batches():
            yield from _plain(batch.removed_keys)

    @property
    def changed(self) -> Iterator[Key]:
        """Keys both sides have, with different samples."""
        for batch in self._iter_batches():
            yield from _plain(batch.changed_keys)

    @cached_property
    def counts(self) -> ChangeCounts:
        """How many keys were added, removed and changed."""
        if self._is_replacement():
            return ChangeCounts(_count(self._new), _count(self._old), 0)
        added = removed = changed = 0
        for batch in self._iter_batches():
            added += len(batch.added_keys)
            removed += len(batch.removed_keys)
            changed += len(batch.changed_keys)
        return ChangeCounts(added, removed, changed)

    def _is_replacement(self) -> bool:
        """Whether nothing of the old side can be compared with the new one."""
        return self.kind != "changed"

    def _iter_batches(self) -> Iterator[DiffBatch]:
        if self._is_replacement():
            yield from _iter_all(self._old, is_new=False)
            yield from _iter_all(self._new, is_new=True)
        elif self._old is not None and self._new is not None:
            yield from diff_trees(self._old[0].open_tree(self._old[1]), self._new[0].open_tree(self._new[1]))


class Diff(Mapping[str, ColumnDiff]):
    """From `data/<column>` to its difference, for whatever differs; costs what changed."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self._old = old
        self._new = new

    @cached_property
    def _entries(self) -> dict[str, ColumnDiff]:
        entries: dict[str, ColumnDiff] = {}
        for batch in diff_trees(self._old.tree, self._new.tree):
            for path in _plain(batch.removed_keys):
                entries[str(path)] = ColumnDiff(_load(self._old, path), None)
            for path in _plain(batch.added_keys):
                entries[str(path)] = ColumnDiff(None, _load(self._new, path))
            for path in _plain(batch.changed_keys):
                entries[str(path)] = ColumnDiff(_load(self._old, path), _load(self._new, path))
        return dict(sorted(entries.items()))

    def __getitem__(self, path: str) -> ColumnDiff:
        return self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Diff({', '.join(f'{path}: {entry.kind}' for path, entry in self.items())})"


def _load(snapshot: Snapshot, path: Key) -> tuple[Snapshot, ColumnRecord] | None:
    digest = snapshot.tree.get(path)
    return None if digest is None else (snapshot, snapshot.read_column(ObjectDigest(digest)))


def _count(side: tuple[Snapshot, ColumnRecord] | None) -> int:
    return 0 if side is None else side[0].open_tree(side[1]).count


def _plain(keys: KeyBatch) -> list[Key]:
    return list(keys.tolist()) if isinstance(keys, np.ndarray) else list(keys)


def _iter_all(side: tuple[Snapshot, ColumnRecord] | None, *, is_new: bool) -> Iterator[DiffBatch]:
    if side is None:
        return
    for keys, values in iter_range(side[0].open_tree(side[1])):
        nothing = keys[:0]
        added, removed = (keys, nothing) if is_new else (nothing, keys)
        yield DiffBatch(added, removed, nothing, values[:0], values[:0])
