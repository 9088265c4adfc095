"""Places in a snapshot, as commands name them: a record, everything below a folder, or one key in a record.

data/image          a record: column, model, value, metric or artifact
data/train          all records whose paths begin with `data/train/`, or with `data/` for the shelf `data`
data/image/3        the sample under a key, or the point of a metric at a step
model/net/layer1    a leaf of a model, or all leaves below
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from stockroom.content.column import ColumnRecord
from stockroom.content.snapshot import Record, Snapshot
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.digest import ObjectDigest
from stockroom.trees import Key, KeyType, iter_range

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")

Version: TypeAlias = tuple[object, ...]
"""What a place holds in one snapshot, for comparison; empty if it holds nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A record, or the part of it under `key`: a key of a column or series, or a path in a model."""

    path: str
    key: Key | None = None

    def __str__(self) -> str:
        return self.path if self.key is None else f"{self.path}/{self.key}"


def list_records(snapshot: Snapshot, text: str) -> list[tuple[str, ObjectDigest]]:
    """Return path and digest of the record called `text`, and of all records below the folder of that name."""
    name = text.strip("/")
    own = snapshot.find_digest(name)
    found = [] if own is None else [(name, own)]
    for paths, digests in iter_range(snapshot.tree, f"{name}/", f"{name}0"):  # "0" follows "/"
        found += [(str(path), ObjectDigest(value.tobytes())) for path, value in zip(paths, digests, strict=True)]
    return found


def list_places(snapshot: Snapshot, text: str) -> list[Place]:
    """Return the places that `text` names in a snapshot; none if there is nothing."""
    records = list_records(snapshot, text)
    if records:
        return [Place(path) for path, _ in records]
    part = find_part(snapshot, text)
    return [] if part is None or not _read_part(snapshot, *part) else [part[0]]


def find_part(snapshot: Snapshot, text: str) -> tuple[Place, Record] | None:
    """Return the record whose path begins `text`, as a place with the rest of it as key; None if there is none.

    The longest path wins. The key may not exist.
    """
    for path, key in _iter_splits(text):
        digest = snapshot.find_digest(path)
        if digest is not None:
            record = snapshot.read_record(digest)
            parsed = parse_key(record, key)
            return None if parsed is None else (Place(path, parsed), record)
    return None


def parse_key(record: Record, text: str) -> Key | None:
    """Return the key of a record that `text` spells; None if it cannot be one."""
    if isinstance(record, ColumnRecord) and record.key_type == KeyType.INT:
        return int(text) if _INTEGER.fullmatch(text) and abs(int(text)) < 1 << 63 else None
    return text


def read_version(snapshot: Snapshot, text: str) -> Version:
    """Return what `text` names in a snapshot; reads metadata only. Two equal versions have equal content."""
    records = list_records(snapshot, text)
    if records:
        return tuple(records)
    part = find_part(snapshot, text)
    return () if part is None else _read_part(snapshot, *part)


def _iter_splits(text: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to split a text into a record's path and a key, the longest path first."""
    parts = text.strip("/").split("/")
    for count in range(len(parts) - 1, 1, -1):
        yield "/".join(parts[:count]), "/".join(parts[count:])


def _read_part(snapshot: Snapshot, place: Place, record: Record) -> Version:
    """Return what is stored under a key; empty if it is missing."""
    assert place.key is not None
    if isinstance(record, ColumnRecord):
        entry = snapshot.open_tree(record).get(place.key)
        return () if entry is None else (record.schema, entry)
    structure = snapshot.read_structure(record)
    key = str(place.key)
    if key not in structure.nodes:
        return ()
    read = _make_reader(snapshot, record)
    return tuple(
        (path, structure.leaves[path], read(structure.stored_path(path))) for path in structure.list_leaves(key)
    )


def _make_reader(snapshot: Snapshot, record: StateRecord | ValueRecord) -> Callable[[str], object]:
    """Return the function from the path of a stored leaf to its entry or bytes."""
    if isinstance(record, ValueRecord):
        return record.list_leaves().get
    return snapshot.open_tree(record).get
