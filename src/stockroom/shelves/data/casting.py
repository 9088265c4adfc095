"""Casts a column to another dtype: plans the new record, and rewrites samples only if their bytes change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from stockroom.content.column import BYTES, STR, ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.errors import SchemaError
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.data.values import Array
from stockroom.shelves.data.writer import ColumnWriter
from stockroom.store.dtypes import parse_dtype
from stockroom.trees import Key

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column

_SAME_BYTES: Final = {("bool", "uint8"), ("bool", "int8"), (STR, BYTES)}
_BATCH_NBYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Cast:
    """The result of a cast: the column's new record, and whether its entries stay as they are."""

    record: ColumnRecord
    keeps_bytes: bool


def plan_cast(record: ColumnRecord, dtype: str, column: str) -> Cast | None:
    """Plan the cast of a column to a dtype; None if it has that dtype, `SchemaError` if it cannot be cast to it."""
    if dtype == record.dtype:
        return None
    if (record.dtype in (STR, BYTES)) != (dtype in (STR, BYTES)) or record.decoder is not None:
        kind = record.dtype if record.decoder is None else f"{record.decoder} columns"
        raise SchemaError(f"column {column!r}: cannot cast {kind} to {dtype}; assign converted samples instead")
    return Cast(msgspec.structs.replace(record, dtype=dtype), (record.dtype, dtype) in _SAME_BYTES)


def plan_widening(record: ColumnRecord, shape: tuple[int | None, ...], column: str) -> Cast | None:
    """Plan the change to a wider shape; None if the column has it, `SchemaError` if it does not admit every sample."""
    admits = len(shape) == len(record.shape) and all(
        new is None or new == old for new, old in zip(shape, record.shape, strict=True)
    )
    if not admits or record.is_text:
        raise SchemaError(f"column {column!r}: expected a shape that fits {record.shape}, found {shape}")
    return None if shape == record.shape else Cast(msgspec.structs.replace(record, shape=shape), keeps_bytes=False)


def cast_column(workspace: Workspace, column: Column, cast: Cast, *, lossy: bool) -> ColumnEdit:
    """Return an edit that holds the samples of `column` after the cast."""
    fresh = ColumnEdit(workspace.nodes, cast.record)
    if cast.keeps_bytes:
        return fresh  # the entries stay, only the dtype's name changes
    fresh.clear()
    writer = ColumnWriter(workspace, fresh, column.name)
    keys: Any = iter(column.keys_as_stored())
    count = len(column)
    size = max(1, _BATCH_NBYTES * count // max(1, column.nbytes, count << 4))
    for start in range(0, count, size):
        batch = column.take(np.arange(start, min(start + size, count)))
        named = [next(keys) for _ in range(len(batch))]
        if isinstance(batch, np.ndarray):
            writer.put_batch(named, _cast_array(batch, named, cast, column.name, lossy=lossy))
        else:
            writer.put_all(
                (key, _cast_one(sample, key, cast, column.name, lossy=lossy))
                for key, sample in zip(named, batch, strict=True)
            )
    workspace.wait_for_writes()
    return fresh


def _cast_one(sample: Any, key: Key, cast: Cast, column: str, *, lossy: bool) -> Any:
    if not isinstance(sample, bytes):
        return _cast_array(sample[None], [key], cast, column, lossy=lossy)[0, ...]
    try:
        return sample.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise SchemaError(f"column {column!r}, key {key!r}: expected UTF-8, found other bytes ({error})") from error


def _cast_array(batch: Array, keys: list[Key], cast: Cast, column: str, *, lossy: bool) -> Array:
    """Cast samples stacked on axis 0; raises `SchemaError` naming the first key whose values do not fit."""
    dtype = parse_dtype(cast.record.dtype)
    with np.errstate(all="ignore"):
        converted = batch.astype(dtype)
        if lossy:
            return converted
        fits = _compare(batch, converted)
    wrong = np.flatnonzero(~fits.reshape(len(batch), -1).all(1))
    if len(wrong):
        raise SchemaError(
            f"column {column!r}, key {keys[int(wrong[0])]!r}: its values do not fit {dtype}; cast with lossy=True to "
            "convert them anyway, or assign converted samples"
        )
    return converted


def _compare(before: Array, after: Array) -> Any:
    """Return a mask of the values that the cast kept; floats may be rounded, and must only stay finite."""
    if before.dtype.kind in "fV" and after.dtype.kind in "fV":
        return np.isfinite(after) | ~np.isfinite(before)
    back = after.real if after.dtype.kind == "c" and before.dtype.kind != "c" else after
    back = back.astype(before.dtype)
    return (back == before) | ((back != back) & (before != before))  # NaN does not equal itself
