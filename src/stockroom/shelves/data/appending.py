"""Puts columns that were just made behind those of the same names that they replaced. Writes entries, and no sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec
import numpy as np

from stockroom.content.column_edit import ColumnEdit
from stockroom.errors import SchemaError
from stockroom.shelves.data.values import Schema, widen_schema
from stockroom.trees import KeyType, iter_positions


class _EditedShelf(Protocol):
    """The methods of the data shelf that are used here."""

    def get_edit(self, name: str) -> ColumnEdit: ...
    def put_back(self, name: str, edit: ColumnEdit | None) -> None: ...
    def widen(self, name: str, shape: Any) -> Any: ...


def append_behind(shelf: _EditedShelf, names: Collection[str], before: Mapping[str, ColumnEdit]) -> None:
    """Put the samples of the new columns `names` behind those of the columns `before`, which they replaced.

    Int keys of all new columns are moved by the same number, so that a row keeps one key in all of them. Columns of
    `before` that have no successor come back. Raises `SchemaError` naming the column if the two do not go together.
    """
    for name, edit in before.items():
        if name not in names:
            shelf.put_back(name, edit)
    older = {name: edit for name, edit in before.items() if name in names}
    for name, edit in older.items():
        _check_fit(name, edit, shelf.get_edit(name))
    last_keys = [edit.tree.last_key for edit in older.values() if edit.record.key_type == KeyType.INT]
    first = 1 + max((int(key) for key in last_keys if key is not None), default=-1)
    for name in names:
        _append(shelf, name, older.get(name), first)


def _check_fit(name: str, older: ColumnEdit, newer: ColumnEdit) -> None:
    """Raise `SchemaError` unless one column can hold the samples of both."""
    for what in ("dtype", "key_type", "decoder"):
        ours, theirs = getattr(older.record, what), getattr(newer.record, what)
        if ours != theirs:
            raise SchemaError(
                f"column {name!r}: expected {what} {ours} as it has, found {theirs}; import without --append, or "
                "cast the column first"
            )
    if len(older.record.shape) != len(newer.record.shape):
        raise SchemaError(f"column {name!r}: expected {len(older.record.shape)} axes, found {len(newer.record.shape)}")
    differing = sorted(key for key, value in newer.record.attrs.items() if older.record.attrs.get(key, value) != value)
    if differing:
        raise SchemaError(
            f"column {name!r}: expected the attrs that it has, found other {', '.join(differing)}: its samples mean "
            "something else; import them into another branch or repository, and convert them"
        )


def _append(shelf: _EditedShelf, name: str, older: ColumnEdit | None, first: int) -> None:
    """Move the keys of a new column, or put its entries behind those of the older one."""
    if older is not None:
        newer = _replace_by_older(shelf, name, older)
        target = shelf.get_edit(name)
    else:
        newer = shelf.get_edit(name)
        target = ColumnEdit(newer.nodes, newer.record)
        target.clear()
    for keys, entries in iter_positions(newer.tree):
        moved: Any = keys + first if isinstance(keys, np.ndarray) else keys
        if not isinstance(keys, np.ndarray):
            _refuse_known(name, target, keys)
        target.put_many(moved, entries)
    if older is None:
        newer.adopt(target)


def _replace_by_older(shelf: _EditedShelf, name: str, older: ColumnEdit) -> ColumnEdit:
    """Put the older column back, and return the edit of the newer one; both then have one schema."""
    schemas = [Schema(edit.record.dtype, edit.record.shape) for edit in (older, shelf.get_edit(name))]
    shape = widen_schema(*schemas).shape
    if shape != schemas[1].shape:
        shelf.widen(name, shape)
    newer = shelf.get_edit(name)
    shelf.put_back(name, older)
    if shape != schemas[0].shape:
        shelf.widen(name, shape)
    edit = shelf.get_edit(name)
    edit.record = msgspec.structs.replace(edit.record, attrs={**newer.record.attrs, **edit.record.attrs})
    return newer


def _refuse_known(name: str, edit: ColumnEdit, keys: Any) -> None:
    known = np.flatnonzero(edit.tree.positions_of(keys) >= 0)
    if len(known):
        raise SchemaError(
            f"column {name!r}: expected new keys, found {keys[int(known[0])]!r:.80}, which it has already; import "
            "without --append to replace the column"
        )
