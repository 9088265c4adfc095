"""Edits of a snapshot by place: taking content from another snapshot, removing it, and moving it. Reads no sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.merge.content import put_record
from stockroom.content.places import Place
from stockroom.content.snapshot import Snapshot
from stockroom.digest import ObjectDigest
from stockroom.errors import InvalidInputError
from stockroom.refs import ObjectStore
from stockroom.trees import Key


def take_places(content: Snapshot, source: Snapshot, places: Iterable[Place], objects: ObjectStore) -> Snapshot:
    """Return `content` with the places as they are in `source`: changed, added or removed.

    Raises `InvalidInputError` for a part of a model, or a key of a column whose schema differs.
    """
    for place in places:
        if place.key is None:
            content = put_record(content, place.path, source.find_digest(place.path))
        else:
            content = _take_key(content, source, place.path, place.key, objects)
    return content


def remove_places(content: Snapshot, places: Iterable[Place], objects: ObjectStore) -> Snapshot:
    """Return `content` without the places. Raises `InvalidInputError` for a part of a model or value."""
    for place in places:
        if place.key is None:
            content = put_record(content, place.path, None)
        else:
            record = get_column(content, place.path)
            content = _edit_keys(content, place.path, record, {}, objects, deletes=[place.key])
    return content


def move_record(content: Snapshot, old: str, new: str) -> Snapshot:
    """Return `content` with the record at `old` at `new`."""
    moved = put_record(content, new, content.find_digest(old))
    return put_record(moved, old, None)


def move_key(content: Snapshot, path: str, old: Key, new: Key, objects: ObjectStore) -> Snapshot:
    """Return `content` with the sample under `old` under `new`."""
    record = get_column(content, path)
    entry = content.open_tree(record).get(old)
    assert entry is not None
    return _edit_keys(content, path, record, {new: entry}, objects, deletes=[old])


def get_column(content: Snapshot, path: str) -> ColumnRecord:
    """Return the column or series at a path. Raises `InvalidInputError` if something else is there."""
    digest = content.find_digest(path)
    record = None if digest is None else content.read_record(digest)
    if not isinstance(record, ColumnRecord):
        raise InvalidInputError(
            f"{path}: expected a column or metric, whose keys can be changed one by one; use {path}"
        )
    return record


def _take_key(content: Snapshot, source: Snapshot, path: str, key: Key, objects: ObjectStore) -> Snapshot:
    ours = get_column(content, path) if content.find_digest(path) is not None else None
    theirs = get_column(source, path) if source.find_digest(path) is not None else None
    entry = None if theirs is None else source.open_tree(theirs).get(key)
    record = ours
    if record is None and theirs is not None:
        raise InvalidInputError(f"{path}: the whole column was removed, so no single key can be taken; use {path}")
    if record is None:
        return content
    if theirs is not None and theirs.schema != record.schema:
        raise InvalidInputError(f"{path}: its schema was changed, so no single key can be taken; use {path}")
    if entry is None:
        return _edit_keys(content, path, record, {}, objects, deletes=[key])
    return _edit_keys(content, path, record, {key: entry}, objects)


def _edit_keys(
    content: Snapshot,
    path: str,
    record: ColumnRecord,
    puts: Mapping[Key, bytes],
    objects: ObjectStore,
    *,
    deletes: Iterable[Key] = (),
) -> Snapshot:
    tree = content.open_tree(record)
    values = np.frombuffer(b"".join(puts.values()), np.uint8).reshape(len(puts), tree.format.value_width)
    edited = tree.edit(list(puts), values, deletes=list(deletes))  # type: ignore[arg-type]
    digest = objects.put_object(record.replace_root(ObjectDigest(edited.root)).encode())
    return put_record(content, path, digest)
