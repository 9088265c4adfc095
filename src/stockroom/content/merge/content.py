"""Three-way merge of a repository's content, path by path: columns by key, models by leaf, series by step.

A merge reads only the metadata that differs, so it needs no data on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.merge.columns import ColumnMerge
from stockroom.content.merge.conflict import (
    NAME,
    SCHEMA,
    STRUCTURE,
    Arbiter,
    Conflict,
    Decide,
    decide_nothing,
    name_kind,
)
from stockroom.content.merge.state_side import read_side
from stockroom.content.merge.states import Average, StateMerge
from stockroom.content.snapshot import DATA, MODEL, Record, Snapshot
from stockroom.content.state import StateRecord
from stockroom.digest import ObjectDigest
from stockroom.refs import ObjectStore
from stockroom.refs.names import find_colliding
from stockroom.trees import Key, KeyType
from stockroom.trees.merge import KeyConflict, Resolution, merge_trees

Disputed: TypeAlias = Mapping[str, frozenset[Key | None]]
"""By path, the keys whose value in the base is not common to both sides; None is the whole path."""


@dataclass(frozen=True, slots=True)
class MergedContent:
    """The content with the changes of both sides, and the conflicts; content in conflict is as ours."""

    snapshot: Snapshot
    conflicts: tuple[Conflict, ...]


@dataclass(slots=True)
class ContentMerge:
    """One merge. It puts its results into `objects`; `ours.nodes` is the cache in front of that store.

    Where something is `disputed`, any difference between the sides is a conflict, whatever `base` has.
    """

    base: Snapshot
    ours: Snapshot
    theirs: Snapshot
    objects: ObjectStore
    decide: Decide = decide_nothing
    average: Average | None = None
    disputed: Disputed = field(default_factory=dict)
    _arbiter: Arbiter = field(init=False)

    def __post_init__(self) -> None:
        self._arbiter = Arbiter(self.decide)

    def run(self) -> MergedContent:
        """Merge everything."""
        self.objects.read_at_once(lambda: [side.tree.top for side in (self.base, self.ours, self.theirs)])
        merged = merge_trees(self.base.tree, self.ours.tree, self.theirs.tree, self._resolve_path, self.disputed)
        snapshot = self._refuse_collisions(Snapshot(self.ours.nodes, merged.tree.root))
        return MergedContent(snapshot, tuple(sorted(self._arbiter.conflicts, key=_order)))

    def _resolve_path(self, found: KeyConflict) -> Resolution | None:
        """Return the merge of a path that both sides changed; undecided conflicts are recorded."""
        path = str(found.key)
        if found.ours is None or found.theirs is None:
            return self._decide_whole(path, name_kind(found.base, found.ours, found.theirs), found)
        before = None if None in self.disputed.get(path, ()) else self.base.find_digest(path)
        digests = before, ObjectDigest(found.ours), ObjectDigest(found.theirs)
        base, ours, theirs = self.objects.read_at_once(lambda: self._read_records(*digests))
        if isinstance(ours, ColumnRecord) and isinstance(theirs, ColumnRecord):
            return self._merge_columns(path, base, ours, theirs, found)
        if isinstance(ours, StateRecord) and isinstance(theirs, StateRecord) and path.startswith(f"{MODEL}/"):
            return self._merge_states(path, base, ours, theirs, found)
        return self._decide_whole(path, name_kind(found.base, found.ours, found.theirs), found)

    def _read_records(self, *digests: ObjectDigest | None) -> list[Record | None]:
        """Return the records of three versions, after reading the top nodes of their trees too."""
        records = [None if digest is None else self.ours.read_record(digest) for digest in digests]
        for record in records:
            if isinstance(record, ColumnRecord | StateRecord):
                _ = self.ours.open_tree(record).top
        return records

    def _merge_columns(
        self, path: str, base: Record | None, ours: ColumnRecord, theirs: ColumnRecord, found: KeyConflict
    ) -> Resolution | None:
        if ours.schema != theirs.schema:
            return self._decide_whole(path, SCHEMA, found)
        merge = ColumnMerge(path, self.ours, base if isinstance(base, ColumnRecord) else None, ours, theirs)
        key_class = int if ours.key_type == KeyType.INT else str
        merged = merge.run(self._arbiter, [key for key in self._list_disputed(path) if isinstance(key, key_class)])
        return Resolution(self.objects.put_object(merged.encode()))

    def _merge_states(
        self, path: str, base: Record | None, ours: StateRecord, theirs: StateRecord, found: KeyConflict
    ) -> Resolution | None:
        before = read_side(self.base, base) if isinstance(base, StateRecord) else None
        arbiter = Arbiter(self.decide)
        disputed = frozenset(map(str, self._list_disputed(path)))
        sides = read_side(self.ours, ours), read_side(self.theirs, theirs)
        merged = StateMerge(path, before, *sides, arbiter, self.average, disputed=disputed).run()
        if merged is None:
            return self._decide_whole(path, STRUCTURE, found)
        self._arbiter.conflicts += arbiter.conflicts
        return Resolution(self.objects.put_object(merged.write(self.ours, self.objects).encode()))

    def _list_disputed(self, path: str) -> list[Key]:
        return [key for key in self.disputed.get(path, ()) if key is not None]

    def _decide_whole(self, path: str, kind: str, found: KeyConflict) -> Resolution | None:
        digests = [None if value is None else value.hex() for value in (found.base, found.ours, found.theirs)]
        side = self._arbiter.choose(Conflict(path, None, kind, *digests))
        return None if side is None else Resolution(found.ours if side == "ours" else found.theirs)

    def _refuse_collisions(self, merged: Snapshot) -> Snapshot:
        """Return `merged` with one column dropped of any two whose names collide: theirs, unless theirs is chosen."""
        if merged.root in (self.ours.root, self.theirs.root):
            return merged
        names = set(merged.iter_names(DATA))
        for name in sorted(names - set(self.ours.iter_names(DATA))):
            other = find_colliding(name, names)
            if other is not None:
                path = f"{DATA}/{name}"
                digest = merged.find_digest(path)
                side = self._arbiter.choose(Conflict(path, None, NAME, theirs=None if digest is None else digest.hex()))
                lost = other if side == "theirs" else name
                names.discard(lost)
                merged = put_record(merged, f"{DATA}/{lost}", None)
        return merged


def _order(conflict: Conflict) -> tuple[str, bool, bool, int, str]:
    """Return a sort key: by path, then the whole, then integer keys by number, then str keys by name."""
    key = conflict.key
    return conflict.path, key is not None, isinstance(key, str), key if isinstance(key, int) else 0, str(key)


def put_record(snapshot: Snapshot, path: str, digest: ObjectDigest | None) -> Snapshot:
    """Return the content with the record `digest` at `path`, or without that path for None."""
    if digest is None:
        return Snapshot(snapshot.nodes, snapshot.tree.edit(deletes=[path]).root)
    values = np.frombuffer(digest, np.uint8).reshape(1, -1)
    return Snapshot(snapshot.nodes, snapshot.tree.edit([path], values).root)
