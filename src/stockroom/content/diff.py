"""The difference between two snapshots, record by record, read only as far as it is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.nodes import Leaf
from stockroom.content.printable import as_line
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, StateRecord, ValueRecord
from stockroom.digest import ObjectDigest, compute_digest
from stockroom.store.chunking import INLINE_MAX_NBYTES
from stockroom.trees import DiffBatch, Key, KeyBatch, diff_trees, iter_range

ComparedState: TypeAlias = tuple[Snapshot, StateRecord | ValueRecord]
_Change: TypeAlias = tuple[ObjectDigest | None, ObjectDigest | None]
Keys: TypeAlias = frozenset[str] | None
"""The keys that a difference is limited to, as text, and everything below them; None is all keys."""


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """How many keys were added, removed and changed."""

    added: int
    removed: int
    changed: int


class ColumnDiff:
    """The difference of one column. `kind` is `added`, `removed`, `changed`, or `schema` if samples are not comparable.

    `added`, `removed` and `changed` lazily iterate keys in key order, from the start each time.
    """

    def __init__(
        self,
        old: tuple[Snapshot, ColumnRecord] | None,
        new: tuple[Snapshot, ColumnRecord] | None,
        only: Keys = None,
    ) -> None:
        self._old = old
        self._new = new
        self._only = only

    @property
    def kind(self) -> str:
        """How the column changed as a whole."""
        if self._old is None:
            return "added"
        if self._new is None:
            return "removed"
        return "changed" if self._old[1].schema == self._new[1].schema else "schema"

    @property
    def old(self) -> ColumnRecord | None:
        """The column's old record."""
        return None if self._old is None else self._old[1]

    @property
    def new(self) -> ColumnRecord | None:
        """The column's new record."""
        return None if self._new is None else self._new[1]

    @property
    def added(self) -> Iterator[Key]:
        """The keys that only the new side has."""
        for batch in self._iter_batches():
            yield from self._choose(batch.added_keys)

    @property
    def removed(self) -> Iterator[Key]:
        """The keys that only the old side has."""
        for batch in self._iter_batches():
            yield from self._choose(batch.removed_keys)

    @property
    def changed(self) -> Iterator[Key]:
        """The keys that both sides have, with different samples."""
        for batch in self._iter_batches():
            yield from self._choose(batch.changed_keys)

    @cached_property
    def counts(self) -> ChangeCounts:
        """How many keys were added, removed and changed."""
        if self._only is not None:
            return ChangeCounts(*(sum(1 for _ in keys) for keys in (self.added, self.removed, self.changed)))
        if self.kind != "changed":
            return ChangeCounts(_count(self._new), _count(self._old), 0)
        added = removed = changed = 0
        for batch in self._iter_batches():
            added += len(batch.added_keys)
            removed += len(batch.removed_keys)
            changed += len(batch.changed_keys)
        return ChangeCounts(added, removed, changed)

    def _choose(self, keys: KeyBatch) -> list[Key]:
        return [key for key in _plain(keys) if _has(self._only, str(key))]

    def _iter_batches(self) -> Iterator[DiffBatch]:
        if self.kind != "changed":  # the sides cannot be compared by key
            yield from _iter_all(self._old, is_new=False)
            yield from _iter_all(self._new, is_new=True)
        elif self._old is not None and self._new is not None:
            yield from diff_trees(self._old[0].open_tree(self._old[1]), self._new[0].open_tree(self._new[1]))


class StateDiff:
    """The difference of one model, value or artifact, by the paths of leaves; a lone leaf has the name of the value."""

    def __init__(self, name: str, old: ComparedState | None, new: ComparedState | None, only: Keys = None) -> None:
        self._name = name
        self._old = old
        self._new = new
        self._only = only

    @property
    def kind(self) -> str:
        """How it changed as a whole: `added`, `removed` or `changed`."""
        return "added" if self._old is None else "removed" if self._new is None else "changed"

    @property
    def old(self) -> StateRecord | ValueRecord | None:
        """The old record."""
        return None if self._old is None else self._old[1]

    @property
    def new(self) -> StateRecord | ValueRecord | None:
        """The new record."""
        return None if self._new is None else self._new[1]

    @property
    def added(self) -> Iterator[Key]:
        """The paths of the leaves that only the new side has."""
        return iter(self._paths[0])

    @property
    def removed(self) -> Iterator[Key]:
        """The paths of the leaves that only the old side has."""
        return iter(self._paths[1])

    @property
    def changed(self) -> Iterator[Key]:
        """The paths of the leaves that both sides have, with different bytes, dtype or shape."""
        return iter(self._paths[2])

    @property
    def counts(self) -> ChangeCounts:
        """How many leaves were added, removed and changed."""
        return ChangeCounts(*map(len, self._paths))

    @cached_property
    def _paths(self) -> tuple[list[str], list[str], list[str]]:
        added, removed, changed = compare_states(self._old, self._new)
        return self._show(added), self._show(removed), self._show(changed)

    def _show(self, paths: Iterable[str]) -> list[str]:
        return [path or self._name for path in sorted(paths) if _has(self._only, path)]

    def __repr__(self) -> str:
        return f"StateDiff({self._name!r}, {self.kind})"


RecordDiff: TypeAlias = ColumnDiff | StateDiff


def compare_states(old: ComparedState | None, new: ComparedState | None) -> tuple[set[str], set[str], set[str]]:
    """Return the paths of the leaves that only `new` has, that only `old` has, and that differ; reads no leaf's bytes.

    A tied leaf is changed if the leaf it is tied to changed, or if it is now tied to another one.
    """
    before, after = _list_leaves(old), _list_leaves(new)
    bytes_differ = _compare_bytes(old, new)
    changed, moved = set(), set()
    for path in before.keys() & after.keys():
        (stored, leaf), (other_stored, other_leaf) = before[path], after[path]
        if leaf != other_leaf or (stored == other_stored and stored in bytes_differ):
            changed.add(path)
        elif stored != other_stored:
            moved.add(path)
    if moved and old is not None and new is not None:
        entries, other_entries = _read_entries(*old), _read_entries(*new)
        changed |= {path for path in moved if entries[before[path][0]] != other_entries[after[path][0]]}
    return after.keys() - before.keys(), before.keys() - after.keys(), changed


def _list_leaves(side: ComparedState | None) -> dict[str, tuple[str, Leaf]]:
    """Return, by path, where a leaf's bytes are stored, and the leaf."""
    if side is None:
        return {}
    structure = side[0].read_structure(side[1])
    return {path: (structure.stored_path(path), structure.leaves[structure.origin(path)]) for path in structure.leaves}


def _compare_bytes(old: ComparedState | None, new: ComparedState | None) -> set[str]:
    """Return the paths under which both sides store different bytes."""
    if old is None or new is None:
        return set()
    if isinstance(old[1], StateRecord) and isinstance(new[1], StateRecord):
        batches = diff_trees(old[0].open_tree(old[1]), new[0].open_tree(new[1]))
        return {str(path) for batch in batches for path in _plain(batch.changed_keys)}
    before, after = _read_entries(*old), _read_entries(*new)
    return {path for path in before.keys() & after.keys() if before[path] != after[path]}


def _read_entries(snapshot: Snapshot, record: StateRecord | ValueRecord) -> dict[str, bytes]:
    """Return, by path, a leaf's bytes if they are inline, otherwise their digest."""
    if isinstance(record, ValueRecord):
        return {path: _stand_in(data) for path, (_, data) in record.list_leaves().items()}
    entries: dict[str, bytes] = {}
    for paths, values in iter_range(snapshot.open_tree(record)):
        for path, value in zip(paths, values, strict=True):
            entries[str(path)] = STATE_ENTRIES.decode(value.tobytes()).payload
    return entries


def _stand_in(data: bytes) -> bytes:
    return data if len(data) <= INLINE_MAX_NBYTES else compute_digest(data)


class Diff(Mapping[str, RecordDiff]):
    """Differences by path (`data/<column>`, `model/<name>`, `experiment/<key>`); the cost grows with the changes.

    `paths`, if any, limit it: to records, to everything below a folder such as `data`, or to a key in a record.
    """

    def __init__(self, old: Snapshot, new: Snapshot, paths: Sequence[str] = ()) -> None:
        self._old = old
        self._new = new
        self._paths = frozenset(path.strip("/") for path in paths)
        self._below: dict[str, set[str]] = defaultdict(set)
        for path in self._paths:
            for folder in _list_folders(path)[:-1]:
                self._below[folder].add(path[len(folder) + 1 :])
        self._compared: dict[str, RecordDiff] = {}

    @cached_property
    def _changes(self) -> dict[str, _Change]:
        """The digests of each changed record that is wanted, before and after, in order of path."""
        self._new.nodes.get_objects([])  # raises `ClosedError`, which nodes in memory would not
        found = {path: change for path, change in self._iter_changes() if self._is_wanted(path, change)}
        return dict(sorted(found.items()))

    def _iter_changes(self) -> Iterator[tuple[str, _Change]]:
        for batch in diff_trees(self._old.tree, self._new.tree):
            for path, digest in self._old.iter_digests_at([*map(str, _plain(batch.removed_keys))]):
                yield path, (digest, None)
            for path, digest in self._new.iter_digests_at([*map(str, _plain(batch.added_keys))]):
                yield path, (None, digest)
            both = zip(_plain(batch.changed_keys), batch.old_values, batch.new_values, strict=True)
            for key, before, after in both:
                yield str(key), (ObjectDigest(before.tobytes()), ObjectDigest(after.tobytes()))

    def _is_wanted(self, path: str, change: _Change) -> bool:
        only = self._limit(path)
        if not only:
            return only is None
        counts = self._compare(path, change, only).counts
        return counts is None or bool(counts.added or counts.removed or counts.changed)

    def _limit(self, path: str) -> Keys:
        """Return the keys that are wanted of a record, none if it is not wanted; None is all."""
        if not self._paths or not self._paths.isdisjoint(_list_folders(path)):
            return None
        return frozenset(self._below.get(path, ()))

    def _compare(self, path: str, change: _Change, only: Keys) -> RecordDiff:
        before, after = change
        old = None if before is None else (self._old, self._old.read_record(before))
        new = None if after is None else (self._new, self._new.read_record(after))
        if any(side is not None and isinstance(side[1], ColumnRecord) for side in (old, new)):
            return ColumnDiff(old, new, only)  # type: ignore[arg-type]
        return StateDiff(path.partition("/")[2], old, new, only)  # type: ignore[arg-type]

    def list_renames(self) -> dict[str, str]:
        """Return old path -> new path of everything that was removed and added again unchanged, under the same kind."""
        removed = {before: path for path, (before, after) in self._changes.items() if after is None}
        renames = {}
        for path, (before, after) in self._changes.items():
            old = removed.get(after) if before is None else None
            if old is not None and old not in renames and old.partition("/")[0] == path.partition("/")[0]:
                renames[old] = path
        return renames

    def __getitem__(self, path: str) -> RecordDiff:
        found = self._compared.get(path)
        if found is None:
            found = self._compared[path] = self._compare(path, self._changes[path], self._limit(path))
        return found

    def __contains__(self, path: object) -> bool:
        return path in self._changes

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def __repr__(self) -> str:
        return f"Diff({', '.join(f'{as_line(path)}: {entry.kind}' for path, entry in self.items())})"

    def _repr_html_(self) -> str:
        from stockroom.content.html_table import format_table

        counted = ((path, entry.kind, entry.counts) for path, entry in self.items())
        rows = ((path, kind, f"+{c.added} -{c.removed} ~{c.changed}") for path, kind, c in counted)
        return format_table(f"{len(self)} changed", rows)


def _list_folders(path: str) -> list[str]:
    """Return the folders that a path is in, the outermost first, and the path itself."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _has(only: Keys, key: str) -> bool:
    """Return whether a key, or a part of it up to a slash, is among those that a difference is limited to."""
    return only is None or key in only or any(key.startswith(f"{one}/") for one in only)


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
