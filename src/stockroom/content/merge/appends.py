"""Moves the samples that one side appended behind those of the other side, so that both stay.

A writer that appends does not choose the keys: they follow the greatest key that it sees. If others append at the
same time, both take the same keys for different samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.snapshot import DATA, METRIC, Snapshot
from stockroom.digest import ObjectDigest
from stockroom.refs import ObjectStore
from stockroom.trees import ItemBatch, KeyType, Tree, diff_trees, iter_range

Appends: TypeAlias = Mapping[str, range]
"""By path, the keys given to the samples or points that were appended there."""

_MAX_KEY: Final = (1 << 63) - 1


def move_appends(base: Snapshot, ours: Snapshot, theirs: Snapshot, objects: ObjectStore, appends: Appends) -> Snapshot:
    """Return `ours` with its appends moved behind those of `theirs`, if they have keys in common.

    Columns whose appends start at one key are rows of one table, and move together. Nothing moves if ours also chose
    keys there itself, or changed columns of str keys, since these may name the keys that would move.
    """
    tables: dict[tuple[str, int], dict[str, range]] = defaultdict(dict)
    for path, keys in appends.items():
        tables[path.partition("/")[0], keys.start][path] = keys
    changed = list(_iter_changed(base, ours))
    puts: dict[str, ObjectDigest] = {}
    for (shelf, start), table in tables.items():
        steps = theirs.iter_names(METRIC) if shelf == METRIC else ()  # a step is behind those of all metrics
        shift = _measure_shift(base, theirs, table, others=[f"{METRIC}/{name}" for name in steps])
        if shift and (shelf != DATA or not _chooses_keys(base, ours, changed, appends, start)):
            puts |= _move_table(ours, objects, table, shift)
    if not puts:
        return ours
    values = np.frombuffer(b"".join(puts.values()), np.uint8).reshape(len(puts), -1)
    return Snapshot(ours.nodes, ours.tree.edit(list(puts), values).root)


def _measure_shift(base: Snapshot, theirs: Snapshot, table: Appends, *, others: Iterable[str]) -> int:
    """Return how far the appends to some columns must move; 0 if they need not, or are not behind all of `base`.

    They go behind the last keys of theirs in the same columns and in `others`.
    """
    start, collides, last = next(iter(table.values())).start, False, 0
    for path in {*table, *others}:
        keys, before, after = table.get(path, range(0)), _open(base, path), _open(theirs, path)
        if keys and before is not None and before.count and int(before.last_key or 0) >= start:
            return 0
        if after is not None and after.count and after.format.key_type is KeyType.INT:
            collides = collides or (len(keys) > 0 and next(_read(after, keys), None) is not None)
            last = max(last, int(after.last_key or 0))
    shift = last + 1 - start
    return shift if collides and max(keys.stop for keys in table.values()) + shift <= _MAX_KEY else 0


def _chooses_keys(
    base: Snapshot, ours: Snapshot, changed: Sequence[tuple[str, ColumnRecord]], appends: Appends, start: int
) -> bool:
    """Return whether ours has changed samples from key `start` on that it did not append, or columns of str keys."""
    for path, record in changed:
        if record.key_type == KeyType.STR:
            return True
        tree, own = ours.open_tree(record), appends.get(path, range(0))
        before = _open(base, path)
        if before is None or before.format.key_type is not KeyType.INT:
            before = Tree.empty(tree.nodes, tree.format)
        for batch in diff_trees(before, tree):
            for keys in (batch.added_keys, batch.removed_keys, batch.changed_keys):
                found = np.asarray(keys, np.int64)
                if ((found >= start) & ~((found >= own.start) & (found < own.stop))).any():
                    return True
    return False


def _iter_changed(base: Snapshot, ours: Snapshot) -> Iterator[tuple[str, ColumnRecord]]:
    """Yield the columns that ours has and that differ from the base's."""
    for batch in diff_trees(base.tree, ours.tree):
        for path, digest in ours.find_digests([*map(str, batch.added_keys), *map(str, batch.changed_keys)]):
            if path.startswith(f"{DATA}/"):
                yield path, ours.read_column(digest)


def _move_table(
    content: Snapshot, objects: ObjectStore, table: Mapping[str, range], shift: int
) -> dict[str, ObjectDigest]:
    """Return the new records of the columns of a table whose keys move."""
    moved = {path: _move(content, path, keys, shift) for path, keys in table.items()}
    return {path: objects.put_object(record.encode()) for path, record in moved.items() if record is not None}


def _move(content: Snapshot, path: str, keys: range, shift: int) -> ColumnRecord | None:
    record = content.find_column(path)
    if record is None:
        return None
    tree = content.open_tree(record)
    batches = list(_read(tree, keys))
    old: NDArray[np.int64] = np.concatenate(
        [np.empty(0, np.int64), *(np.asarray(part, np.int64) for part, _ in batches)]
    )
    if not len(old):
        return None
    new = old + shift
    values = np.concatenate([rows for _, rows in batches])
    return record.replace_root(tree.edit(new, values, deletes=old[~np.isin(old, new)]).root)


def _read(tree: Tree, keys: range) -> Iterator[ItemBatch]:
    return iter_range(tree, keys.start, keys.stop if keys.stop <= _MAX_KEY else None)


def _open(content: Snapshot, path: str) -> Tree | None:
    record = content.find_column(path)
    return None if record is None else content.open_tree(record)
