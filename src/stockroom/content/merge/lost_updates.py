"""Finds updates that would be lost: a value that was read and then written, while others changed it.

Two writers that both count from 0 to 1 leave equal values, which a merge takes for one change. In turn, they
would have counted to 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.entries import digest_entry
from stockroom.content.merge.conflict import ADDED, ATTRS, CHANGED, Conflict
from stockroom.content.merge.mappings import name_key
from stockroom.content.merge.reads import Reads
from stockroom.content.snapshot import Snapshot
from stockroom.trees import Key, Tree, diff_trees


def iter_lost_updates(
    base: Snapshot, ours: Snapshot, theirs: Snapshot, reads: Reads, restarted: Iterable[str] = ()
) -> Iterator[Conflict]:
    """Yield a conflict for each thing that ours read as `base` has it, and that both sides have changed in one way.

    A merge finds those that they changed in different ways. Also yields one for each series that ours has `restarted`
    and theirs has changed: a merge by step would mix two runs.
    """
    for path in sorted(restarted):
        base_digest, our_digest, their_digest = (side.find_digest(path) for side in (base, ours, theirs))
        if base_digest != their_digest:
            yield Conflict(
                path, None, CHANGED, *(None if d is None else d.hex() for d in (base_digest, our_digest, their_digest))
            )
    for path, found in sorted(reads.paths.items()):
        base_digest, our_digest, their_digest = (side.find_digest(path) for side in (base, ours, theirs))
        if our_digest == their_digest != base_digest == found:
            digests = [None if digest is None else digest.hex() for digest in (base_digest, our_digest, their_digest)]
            yield Conflict(path, None, ADDED if base_digest is None else CHANGED, *digests)
    for path in sorted(reads.keys.keys() | reads.trees.keys() | reads.attrs.keys()):
        versions = [side.find_column(path) for side in (base, ours, theirs)]
        if versions[1] is not None and versions[2] is not None and versions[1].schema == versions[2].schema:
            yield from _compare(path, ours, versions[0], versions[1], versions[2], reads)


def _compare(
    path: str, content: Snapshot, base: ColumnRecord | None, ours: ColumnRecord, theirs: ColumnRecord, reads: Reads
) -> Iterator[Conflict]:
    if path in reads.attrs:
        attrs = {} if base is None else base.attrs
        found = reads.attrs[path]
        for name in sorted(ours.attrs.keys() & theirs.attrs.keys()):
            base_value, our_value, their_value = (side.get(name) for side in (attrs, ours.attrs, theirs.attrs))
            if our_value == their_value != base_value == found.get(name):
                yield Conflict(path, name_key(ATTRS, name), ATTRS)
    if base is not None and base.schema != ours.schema:
        return
    tree = content.open_tree(ours)
    base_tree = Tree.empty(tree.nodes, tree.format) if base is None else content.open_tree(base)
    for key, old, new in _iter_equal(base_tree, tree, content.open_tree(theirs)):
        if reads.finds(path, key, old):
            before_hex, after_hex = (_digest(content, ours, value) for value in (old, new))
            yield Conflict(path, key, ADDED if old is None else CHANGED, before_hex, after_hex, after_hex)


def _digest(content: Snapshot, record: ColumnRecord, value: bytes | None) -> str | None:
    return None if value is None else digest_entry(content.nodes, record.entry_format.decode(value)).hex()


def _iter_equal(base: Tree, ours: Tree, theirs: Tree) -> Iterator[tuple[Key, bytes | None, bytes | None]]:
    """Yield the keys that both sides changed in one way, each with its value before and after; None is no value."""
    if theirs.root == base.root:
        return
    for batch in diff_trees(base, ours):
        for keys in (batch.added_keys, batch.removed_keys, batch.changed_keys):
            if not len(keys):
                continue
            was, old = base.get_many(keys)
            in_ours, our_values = ours.get_many(keys)
            in_theirs, their_values = theirs.get_many(keys)
            same = (in_ours == in_theirs) & (our_values == their_values).all(axis=1)
            for row in np.flatnonzero(same).tolist():
                key = keys[row] if isinstance(keys[row], str) else int(keys[row])
                yield key, old[row].tobytes() if was[row] else None, our_values[row].tobytes() if in_ours[row] else None
