"""Converts Arrow's columns to ours: the schema of each type, and its values as arrays, text or bytes.

Owns all knowledge of Arrow's types. Values with no form of their own here become JSON text. pyarrow is optional: it
comes with the extra `tables`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Array, Schema
from stockroom.store.dtypes import parse_dtype

DTYPE_KEY: Final = b"stockroom.dtype"
"""Key in a field's metadata: the dtype of values that Arrow lacks, stored as other values of their size."""

DECODER_KEY: Final = b"stockroom.decoder"
"""Key in the metadata of a field of bytes: the decoder of the column."""


def load_arrow(where: str) -> Any:
    """Import pyarrow and return it. Raises `InvalidInputError` naming `where` if it is not installed."""
    try:
        import pyarrow
    except ImportError as error:
        raise InvalidInputError(
            f"{where}: this needs pyarrow: install it with `pip install 'stockroom-vcs[tables]'`"
        ) from error
    return pyarrow


def plan_column(field: Any, name: str, attrs: dict[str, Any]) -> ColumnPlan:
    """Plan the column for one field of an Arrow schema."""
    schema = find_schema(field.type)
    metadata = field.metadata or {}
    if DTYPE_KEY in metadata and schema is not None and schema.dtype not in ("str", "bytes"):
        schema = Schema(_stored_dtype(field).name, schema.shape)
    decoder = metadata.get(DECODER_KEY) if schema is not None and schema.dtype == "bytes" else None
    return ColumnPlan(name, schema, attrs, None if decoder is None else decoder.decode("ascii", "replace"))


def find_schema(kind: Any) -> Schema | None:
    """Return the schema of values of an Arrow type, or None if only the values show it."""
    arrow = load_arrow("arrow")
    types = arrow.types
    if types.is_dictionary(kind):
        return find_schema(kind.value_type)
    if isinstance(kind, arrow.FixedShapeTensorType):
        return Schema(np.dtype(kind.value_type.to_pandas_dtype()).name, tuple(kind.shape))
    if isinstance(kind, arrow.BaseExtensionType):
        return find_schema(kind.storage_type)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return Schema("bytes", (None,))
    if types.is_null(kind):
        return None
    dtype, axes = _describe_numbers(kind)
    if dtype is None:
        return Schema("str", (None,))
    return Schema(dtype, ()) if not axes else None if None in axes else Schema(dtype, axes)


def read_values(array: Any, field: Any) -> Values:
    """Return the values of one record batch's column, with None for nulls (NaN among floats).

    Raises `InvalidInputError` naming the column for lists with nulls in them, or of lists of different lengths.
    """
    arrow = load_arrow("arrow")
    kind = array.type
    if arrow.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if isinstance(kind, arrow.BaseExtensionType):
        if isinstance(kind, arrow.FixedShapeTensorType) and not array.null_count:
            return _restore(array.to_numpy_ndarray(), field)
        array, kind = array.storage, kind.storage_type
    dtype, axes = _describe_numbers(kind)
    if dtype is None:
        return _read_text(array, kind)
    if axes:
        return _read_lists(array, axes, field)
    return _read_scalars(array, dtype, field)


def _describe_numbers(kind: Any) -> tuple[str | None, tuple[int | None, ...]]:
    """Return the dtype of a type's numbers (None: no numbers), and the lengths of lists around them (None: any)."""
    types = load_arrow("arrow").types
    axes: list[int | None] = []
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        axes.append(kind.list_size if types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype()).name, tuple(axes)
    if types.is_date(kind):
        return ("datetime64[D]" if types.is_date32(kind) else "datetime64[ms]"), tuple(axes)
    if types.is_timestamp(kind) or types.is_duration(kind):
        return f"{'datetime' if types.is_timestamp(kind) else 'timedelta'}64[{kind.unit}]", tuple(axes)
    return None, ()


def _read_text(array: Any, kind: Any) -> Values:
    types = load_arrow("arrow").types
    values: list[Any] = array.to_pylist()
    if types.is_string(kind) or types.is_large_string(kind) or isinstance(next(iter(values), None), bytes):
        return values
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return values
    return [None if v is None else v if isinstance(v, str) else _as_json(v) for v in values]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def _read_scalars(array: Any, dtype: str, field: Any) -> Values:
    if not array.null_count or dtype.startswith("float"):
        values = array.to_numpy(zero_copy_only=False)
        return _restore(values.astype(parse_dtype(dtype), copy=False), field)
    there = iter(_restore(array.drop_null().to_numpy(zero_copy_only=False).astype(dtype, copy=False), field))
    return [next(there) if is_valid else None for is_valid in array.is_valid().to_numpy(zero_copy_only=False)]


def _read_lists(array: Any, axes: tuple[int | None, ...], field: Any) -> Values:
    """Return lists of numbers as arrays, nested lists with as many axes."""
    levels, values = _flatten(array, axes)
    if values.null_count:
        raise InvalidInputError(f"column {field.name!r}: expected lists without nulls, found nulls; fill them first")
    numbers = _restore(values.to_numpy(zero_copy_only=False), field)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return [_cut(levels, numbers, row, field.name) if is_valid else None for row, is_valid in enumerate(valid)]


def _flatten(array: Any, axes: tuple[int | None, ...]) -> tuple[list[Array | int], Any]:
    """Return each level of lists as its offsets or its common length; and the numbers in the lists."""
    levels: list[Array | int] = []
    for length in axes:
        if length is None:
            levels.append(array.offsets.to_numpy())
            array = array.values
        else:
            levels.append(length)
            array = array.values if array.offset == 0 else array.values.slice(array.offset * length)
    return levels, array


def _cut(levels: list[Array | int], numbers: Array, row: int, name: str) -> Array:
    start, stop = row, row + 1
    shape = []
    for level in levels:
        if isinstance(level, int):
            shape.append(level)
            start, stop = start * level, stop * level
            continue
        lengths = np.diff(level[start : stop + 1])
        if len(lengths) and (lengths != lengths[0]).any():
            raise InvalidInputError(
                f"column {name!r}: expected nested lists of equal length, found lengths "
                f"{sorted(set(lengths.tolist()))[:4]} in one row; convert them to text, or leave the column out"
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        start, stop = int(level[start]), int(level[stop])
    return np.array(numbers[start:stop]).reshape(shape)


def _restore(values: Array, field: Any) -> Array:
    """Return values in the dtype that they had before they were put into Arrow's."""
    if not field.metadata or DTYPE_KEY not in field.metadata:
        return values
    dtype = _stored_dtype(field)
    if dtype.itemsize != values.dtype.itemsize:
        raise InvalidInputError(f"column {field.name!r}: expected values of {dtype}, found {values.dtype}")
    return values.view(dtype)


def _stored_dtype(field: Any) -> np.dtype[Any]:
    return parse_dtype(field.metadata[DTYPE_KEY].decode("ascii", "replace"))
