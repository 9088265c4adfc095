"""Three-way merge of a repository's content, path by path: columns by key, models by leaf, series by step.

Only what differs is read, and of that only metadata: a merge needs no data on this machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import InvalidNameError
from stockroom.refs import ObjectStore, RefStore, check_collision, find_merge_bases
from stockroom.repository.column import ColumnRecord
from stockroom.repository.conflict import ATTRS, NAME, SCHEMA, Conflict, Decide, decide_nothing, name_kind
from stockroom.repository.merge_states import Average, StateMerge, read_side, write_merged
from stockroom.repository.snapshot import DATA, MODEL, Record, Snapshot
from stockroom.repository.state import StateRecord
from stockroom.trees import Key, Tree
from stockroom.trees.merge import KeyConflict, Settled, merge_trees

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class MergedContent:
    """The content with the changes of both sides, and what they disagree about, where it is as ours."""

    snapshot: Snapshot
    conflicts: tuple[Conflict, ...]


@dataclass(slots=True)
class ContentMerge:
    """One merge. Its results are put into `objects`, in front of which `ours` has its nodes."""

    base: Snapshot
    ours: Snapshot
    theirs: Snapshot
    objects: ObjectStore
    decide: Decide = decide_nothing
    average: Average | None = None
    conflicts: list[Conflict] = field(default_factory=list)

    def run(self) -> MergedContent:
        """Merge everything."""
        merged = merge_trees(self.base.tree, self.ours.tree, self.theirs.tree, self._settle_path)
        snapshot = self._refuse_collisions(Snapshot(self.ours.nodes, merged.tree.root))
        return MergedContent(snapshot, tuple(sorted(self.conflicts, key=_order)))

    def merge_path(self, path: str) -> ObjectDigest | None:
        """The digest of the merged record at one path; None where there is to be none."""
        base, ours, theirs = (side.find_digest(path) for side in (self.base, self.ours, self.theirs))
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        settled = self._settle_path(KeyConflict(path, base, ours, theirs))
        if settled is None:
            return ours
        return None if settled.value is None else ObjectDigest(settled.value)

    def _settle_path(self, found: KeyConflict) -> Settled | None:
        """What becomes of a path that both sides changed; conflicts nobody decides are noted."""
        path = str(found.key)
        if found.ours is None or found.theirs is None:
            return self._decide_whole(path, name_kind(found.base, found.ours, found.theirs), found)
        base = None if found.base is None else self.base.read_record(ObjectDigest(found.base))
        ours = self.ours.read_record(ObjectDigest(found.ours))
        theirs = self.theirs.read_record(ObjectDigest(found.theirs))
        if isinstance(ours, ColumnRecord) and isinstance(theirs, ColumnRecord):
            if ours.schema != theirs.schema:
                return self._decide_whole(path, SCHEMA, found)
            return Settled(self.objects.put_object(self._merge_columns(path, base, ours, theirs).encode()))
        if isinstance(ours, StateRecord) and isinstance(theirs, StateRecord) and path.startswith(f"{MODEL}/"):
            return self._merge_states(path, base, ours, theirs, found)
        return self._decide_whole(path, name_kind(found.base, found.ours, found.theirs), found)

    def _decide_whole(self, path: str, kind: str, found: KeyConflict) -> Settled | None:
        digests = [None if value is None else value.hex() for value in (found.base, found.ours, found.theirs)]
        conflict = Conflict(path, None, kind, *digests)
        choice = self.decide(conflict)
        if choice in ("ours", "theirs"):
            return Settled(found.ours if choice == "ours" else found.theirs)
        self.conflicts.append(conflict)
        return None

    def _merge_columns(self, path: str, base: Record | None, ours: ColumnRecord, theirs: ColumnRecord) -> ColumnRecord:
        before = base if isinstance(base, ColumnRecord) and base.schema == ours.schema else None
        empty = Tree.empty(self.ours.nodes, ours.tree_format)
        tree = empty if before is None else self.base.open_tree(before)

        def settle(found: KeyConflict) -> Settled | None:
            kind = name_kind(found.base, found.ours, found.theirs)
            values = (found.base, found.ours, found.theirs)
            digests = [None if v is None else ours.entry_format.decode(v).payload.hex() for v in values]
            conflict = Conflict(path, found.key, kind, *digests)
            choice = self.decide(conflict)
            if choice in ("ours", "theirs"):
                return Settled(found.ours if choice == "ours" else found.theirs)
            self.conflicts.append(conflict)
            return None

        merged = merge_trees(tree, self.ours.open_tree(ours), self.theirs.open_tree(theirs), settle)
        attrs = self._merge_attrs(path, {} if before is None else before.attrs, ours.attrs, theirs.attrs)
        codec = theirs.codec if before is not None and ours.codec == before.codec else ours.codec
        return replace_column(ours, root=merged.tree.root, attrs=attrs, codec=codec)

    def _merge_attrs(
        self, path: str, base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for name in dict.fromkeys([*ours, *theirs]):
            before, mine, yours = (side.get(name, _ABSENT) for side in (base, ours, theirs))
            value = mine
            if mine == before:
                value = yours
            elif yours not in (before, mine):
                conflict = Conflict(path, f"attrs {name}", ATTRS)
                choice = self.decide(conflict)
                if choice not in ("ours", "theirs"):
                    self.conflicts.append(conflict)
                value = yours if choice == "theirs" else mine
            if value is not _ABSENT:
                merged[name] = value
        return merged

    def _merge_states(
        self, path: str, base: Record | None, ours: StateRecord, theirs: StateRecord, found: KeyConflict
    ) -> Settled | None:
        before = read_side(self.base, base) if isinstance(base, StateRecord) else None
        sides = read_side(self.ours, ours), read_side(self.theirs, theirs)
        merge = StateMerge(path, before, *sides, decide=self.decide, average=self.average)
        merged = merge.run()
        if merged is None:
            return self._decide_whole(path, name_kind(found.base, found.ours, found.theirs), found)
        self.conflicts += merge.conflicts
        return Settled(self.objects.put_object(write_merged(self.ours, self.objects, merged).encode()))

    def _refuse_collisions(self, merged: Snapshot) -> Snapshot:
        """`merged` without the columns that they added under names which ours do not go with."""
        names = set(self.ours.iter_names(DATA))
        added = [name for name in merged.iter_names(DATA) if name not in names] if merged.root != self.ours.root else []
        for name in added:
            try:
                check_collision("column", name, names)
            except InvalidNameError:
                path = f"{DATA}/{name}"
                theirs = merged.find_digest(path)
                self.conflicts.append(Conflict(path, None, NAME, None, None, None if theirs is None else theirs.hex()))
                merged = Snapshot(merged.nodes, merged.tree.edit(deletes=[path]).root)
        return merged


def _order(conflict: Conflict) -> tuple[str, bool, int, str]:
    key = conflict.key
    return conflict.path, key is not None, key if isinstance(key, int) else 0, str(key)


def replace_column(record: ColumnRecord, *, root: bytes, attrs: dict[str, Any], codec: str) -> ColumnRecord:
    """A column record with another tree, attrs and codec."""
    return ColumnRecord(record.dtype, record.shape, record.key_type, codec, root, attrs)


def find_base(
    refs: RefStore, open_snapshot: Callable[[CommitId], Snapshot], objects: ObjectStore, bases: Sequence[CommitId]
) -> Snapshot:
    """The content that two lines of history have in common, from their merge bases.

    Several bases, as a criss-cross history has, are merged into one; where they disagree, nothing counts as common,
    so that whatever the two lines have there in different ways is a conflict between them.
    """
    content = open_snapshot(bases[0])
    for other in bases[1:]:
        before = find_merge_bases(refs, bases[0], other)
        base = find_base(refs, open_snapshot, objects, before) if before else Snapshot.empty(content.nodes)
        merged = ContentMerge(base, content, open_snapshot(other), objects).run()
        content = _drop_conflicts(merged, objects)
    return content


def _drop_conflicts(merged: MergedContent, objects: ObjectStore) -> Snapshot:
    keys: dict[str, list[Key]] = defaultdict(list)
    whole: list[str] = []
    for conflict in merged.conflicts:
        digest = merged.snapshot.find_digest(conflict.path)
        if digest is None:
            continue
        found = merged.snapshot.read_record(digest)
        if isinstance(found, ColumnRecord) and conflict.key is not None and conflict.kind != ATTRS:
            keys[conflict.path].append(conflict.key)
        else:
            whole.append(conflict.path)
    tree = merged.snapshot.tree.edit(deletes=sorted(set(whole)))
    snapshot = Snapshot(merged.snapshot.nodes, tree.root)
    for path in keys.keys() - set(whole):
        record = snapshot.find_column(path)
        assert record is not None
        root = snapshot.open_tree(record).edit(deletes=keys[path]).root  # type: ignore[arg-type]
        snapshot = put_record(snapshot, path, objects.put_object(record.replace_root(root).encode()))
    return snapshot


def put_record(snapshot: Snapshot, path: str, digest: ObjectDigest | None) -> Snapshot:
    """The content with the record `digest` at `path`, or, for None, with nothing there."""
    if digest is None:
        return Snapshot(snapshot.nodes, snapshot.tree.edit(deletes=[path]).root)
    values = np.frombuffer(digest, np.uint8).reshape(1, -1)
    return Snapshot(snapshot.nodes, snapshot.tree.edit([path], values).root)
