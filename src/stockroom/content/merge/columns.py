"""Three-way merge of two versions of a column of one schema: samples by key, attrs by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from stockroom.content.column import ColumnRecord
from stockroom.content.entries import digest_entry
from stockroom.content.merge.conflict import ATTRS, Arbiter, Conflict, name_kind
from stockroom.content.merge.mappings import merge_mappings, take_keys
from stockroom.content.merge.three_way import find_side
from stockroom.content.snapshot import Snapshot
from stockroom.errors import InvalidInputError
from stockroom.trees import Key, Tree
from stockroom.trees.merge import KeyConflict, Resolution, merge_trees


@dataclass(frozen=True, slots=True)
class ColumnMerge:
    """The merge of a column or series. `base` is None or has another schema if the sides have nothing in common."""

    path: str
    content: Snapshot
    base: ColumnRecord | None
    ours: ColumnRecord
    theirs: ColumnRecord

    def run(self, arbiter: Arbiter, disputed: Iterable[Key] = ()) -> ColumnRecord:
        """Return the merged column. If both changed the codec, ours wins; existing samples keep their encoding."""
        ours, theirs = self.ours, self.theirs
        base = self.base if self.base is not None and self.base.schema == ours.schema else None
        before = Tree.empty(self.content.nodes, ours.tree_format) if base is None else self.content.open_tree(base)

        def resolve(found: KeyConflict) -> Resolution | None:
            side = arbiter.choose(self._describe(found))
            return None if side is None else Resolution(found.ours if side == "ours" else found.theirs)

        merged = merge_trees(before, self.content.open_tree(ours), self.content.open_tree(theirs), resolve, disputed)
        attrs = merge_mappings(
            self.path, ATTRS, arbiter, base={} if base is None else base.attrs, ours=ours.attrs, theirs=theirs.attrs
        )
        side = find_side(None if base is None else base.codec, ours.codec, theirs.codec)
        codec = theirs.codec if side == "theirs" else ours.codec
        return msgspec.structs.replace(ours, root=merged.tree.root, attrs=attrs, codec=codec)

    def _describe(self, found: KeyConflict) -> Conflict:
        nodes, entry_format = self.content.nodes, self.ours.entry_format
        values = found.base, found.ours, found.theirs
        digests = [v if v is None else digest_entry(nodes, entry_format.decode(v)).hex() for v in values]
        return Conflict(self.path, found.key, name_kind(*values), *digests)


def take_samples(
    content: Snapshot, path: str, staged: ColumnRecord, source: ColumnRecord, conflicts: list[Conflict]
) -> ColumnRecord:
    """Return `staged` with the samples and attrs in conflict as `source` has them, absent ones removed."""
    if staged.schema != source.schema:
        raise InvalidInputError(f"{path}: its schema has changed; resolve it as staged")
    keys: list[Key] = [c.key for c in conflicts if c.kind != ATTRS and c.key is not None]
    found, values = content.open_tree(source).get_many(keys)  # type: ignore[arg-type]
    there = [key for key, is_there in zip(keys, found, strict=True) if is_there]
    gone = [key for key, is_there in zip(keys, found, strict=True) if not is_there]
    tree = content.open_tree(staged).edit(there, values[found], deletes=gone)  # type: ignore[arg-type]
    attrs = take_keys(staged.attrs, source.attrs, ATTRS, conflicts)
    return msgspec.structs.replace(staged, root=tree.root, attrs=attrs)
