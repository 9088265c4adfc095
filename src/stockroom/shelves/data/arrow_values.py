"""Converts Arrow's columns to ours: the form of each type, and its values as arrays, text or bytes.

Owns all knowledge of Arrow's types, with `arrow_json.py`. Every value comes out equal, or its type has no form here.
pyarrow is optional: it comes with the extra `tables`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as arrow
from pyarrow import compute, types

from stockroom.errors import InvalidInputError
from stockroom.shelves.data.arrow_json import (
    find_json_reader,
    is_list,
    is_text,
    measure_lists,
    read_days,
    read_spans,
    spread,
)
from stockroom.shelves.data.table import Values
from stockroom.shelves.data.values import Array, Schema
from stockroom.store.dtypes import parse_dtype

DTYPE_KEY: Final = b"stockroom.dtype"
"""Key in a field's metadata: the dtype of values that are stored as others, such as those that Arrow lacks."""

_MAX_TYPE_LENGTH: Final = 1000


@dataclass(frozen=True, slots=True)
class Form:
    """How a column holds the values of an Arrow type. Without `schema`, the first values decide it.

    `read` returns the values of an array of that type, with None for nulls, or NaN among floats. `is_regular` returns
    whether it can read an array; another form of the same type, `text`, reads any.
    """

    schema: Schema | None
    read: Callable[[Any], Values]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    is_regular: Callable[[Any], bool] | None = None
    text: Form | None = None


def find_form(column: Any) -> Form | None:
    """Return the form of the values of a field of an Arrow schema, or None if there is no lossless one."""
    metadata = column.metadata or {}
    form = _find_form(column.type)
    if form is None or DTYPE_KEY not in metadata or (form.schema is not None and form.schema.dtype in ("str", "bytes")):
        return form
    dtype = parse_dtype(metadata[DTYPE_KEY].decode("ascii", "replace"))
    read = form.read
    return replace(
        form,
        schema=None if form.schema is None else Schema(dtype.name, form.schema.shape),
        read=lambda array: _restore(read(array), dtype, column.name),
    )


def _find_form(kind: Any) -> Form | None:
    if types.is_dictionary(kind):
        return _wrap(_find_form(kind.value_type), lambda array: array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return _wrap(_find_form(kind.value_type), compute.run_end_decode)
    if isinstance(kind, arrow.BaseExtensionType):
        return _find_extension_form(kind)
    if is_text(kind):
        return Form(_TEXT, lambda array: list(array.to_pylist()))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return Form(_BYTES, lambda array: list(array.to_pylist()))
    if types.is_fixed_size_binary(kind):
        return Form(_BYTES, lambda array: list(array.to_pylist()))
    if types.is_decimal(kind):
        return Form(_TEXT, find_json_reader(kind) or list, _name_type(kind))
    if is_list(kind) and (form := _find_list_form(kind)) is not None:
        return form
    return _find_number_form(kind) or _find_text_form(kind)


_TEXT: Final = Schema("str", (None,))
_BYTES: Final = Schema("bytes", (None,))


def _find_number_form(kind: Any) -> Form | None:
    found = _find_number_reader(kind)
    if found is None:
        return None
    dtype, read = found
    attrs: dict[str, Any] = _name_type(kind) if types.is_time(kind) else {}
    if types.is_timestamp(kind) and kind.tz is not None:
        attrs = {"timezone": kind.tz}
    if types.is_floating(kind):
        return Form(Schema(dtype, ()), lambda array: array.to_numpy(zero_copy_only=False), attrs)
    return Form(Schema(dtype, ()), lambda array: spread(array, read) if array.null_count else read(array), attrs)


def _find_number_reader(kind: Any) -> tuple[str, Callable[[Any], Array]] | None:
    """Return the dtype of a type of numbers, and the reader of an array of it without nulls; None for other types."""
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        dtype = np.dtype(kind.to_pandas_dtype())
        return dtype.name, lambda array: array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    if types.is_date(kind) or types.is_timestamp(kind):
        unit = "D" if types.is_date32(kind) else "ms" if types.is_date64(kind) else kind.unit
        return f"datetime64[{unit}]", read_days
    if types.is_time(kind) or types.is_duration(kind):
        return f"timedelta64[{kind.unit}]", read_spans
    return None


def _find_text_form(kind: Any) -> Form | None:
    """Return the form as JSON text of nested values."""
    read = find_json_reader(kind)
    if read is None or types.is_null(kind):
        return None
    return Form(_TEXT, lambda array: list(map(_format_json, read(array))), _name_type(kind))


def _format_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _name_type(kind: Any) -> dict[str, Any]:
    text = str(kind)
    return {"arrow_type": text} if len(text) <= _MAX_TYPE_LENGTH else {}


def _wrap(form: Form | None, unwrap: Callable[[Any], Any]) -> Form | None:
    """Return the form of values that are wrapped in another type, such as a dictionary."""
    if form is None:
        return None
    read, is_regular = form.read, form.is_regular
    return replace(
        form,
        read=lambda array: read(unwrap(array)),
        is_regular=None if is_regular is None else lambda array: is_regular(unwrap(array)),
        text=_wrap(form.text, unwrap),
    )


def _find_extension_form(kind: Any) -> Form | None:
    name = kind.extension_name
    if isinstance(kind, arrow.FixedShapeTensorType):
        return _find_tensor_form(kind)
    if name == "arrow.uuid":
        read = find_json_reader(kind)
        return None if read is None else Form(_TEXT, read, {"arrow_type": format_name(kind)})
    if name == "arrow.bool8":
        return _wrap(_find_form(arrow.bool_()), lambda array: array.storage.cast(arrow.bool_()))
    form = _wrap(_find_form(kind.storage_type), lambda array: array.storage)
    return None if form is None else replace(form, attrs={**form.attrs, "arrow_type": format_name(kind)})


def format_name(kind: Any) -> str:
    """Return a type as text for people."""
    return str(kind)[:80] if not isinstance(kind, arrow.BaseExtensionType) else f"extension<{kind.extension_name}>"


def _find_tensor_form(kind: Any) -> Form | None:
    found = _find_number_reader(kind.value_type)
    if found is None:
        return None
    order = kind.permutation or range(len(kind.shape))
    shape = tuple(kind.shape[axis] for axis in order)

    def read(array: Any) -> Values:
        return spread(array.storage, read_there) if array.null_count else read_there(array.storage)

    def read_there(storage: Any) -> Array:
        numbers = _read_numbers(storage.flatten(), found[1])
        return numbers.reshape(len(storage), *kind.shape).transpose(0, *(axis + 1 for axis in order))

    def is_regular(array: Any) -> bool:
        return not array.storage.drop_null().flatten().null_count or types.is_floating(kind.value_type)

    return Form(Schema(found[0], shape), read, {}, is_regular, _find_text_form(kind.storage_type))


def _find_list_form(kind: Any) -> Form | None:
    """Return the form of lists of numbers as arrays, nested lists with as many axes; None for other lists."""
    axes: list[int | None] = []
    inner = kind
    while is_list(inner):
        axes.append(inner.list_size if types.is_fixed_size_list(inner) else None)
        inner = inner.value_type
    found = _find_number_reader(inner)
    if found is None:
        return None
    dtype, read_numbers = found
    schema = None if None in axes else Schema(dtype, tuple(length or 0 for length in axes))
    attrs = {} if (number := _find_number_form(inner)) is None else number.attrs

    def is_regular(array: Any) -> bool:
        levels, values = _flatten(array, len(axes))
        return levels is not None and (not values.null_count or types.is_floating(inner)) and not _is_ragged(levels)

    def read(array: Any) -> list[Array | None]:
        arrays = _read_arrays(array, len(axes), read_numbers)
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        return [each if there else None for each, there in zip(arrays, valid, strict=True)]

    return Form(schema, read, attrs, is_regular, _find_text_form(kind))


def _flatten(array: Any, depth: int) -> tuple[list[Array] | None, Any]:
    """Return the lengths of the lists on each level, and the numbers in them; no lengths if an inner list is null."""
    levels = [measure_lists(array)]
    array = array.flatten()
    for _ in range(depth - 1):
        if array.null_count:
            return None, array
        levels.append(measure_lists(array))
        array = array.flatten()
    return levels, array


def _is_ragged(levels: list[Array]) -> bool:
    """Return whether lists of one row differ in length on any level."""
    rows = np.arange(len(levels[0]))
    for level, lengths in enumerate(levels):
        if level and ((rows[1:] == rows[:-1]) & (lengths[1:] != lengths[:-1])).any():
            return True
        rows = np.repeat(rows, lengths)
    return False


def _read_arrays(array: Any, depth: int, read_numbers: Callable[[Any], Array]) -> list[Array]:
    """Return regular lists as arrays, those of null as empty ones."""
    levels, values = _flatten(array, depth)
    assert levels is not None
    numbers = _read_numbers(values, read_numbers)
    shapes = np.zeros((len(array), depth), np.int64)
    rows = np.arange(len(array))
    for level, lengths in enumerate(levels):
        shapes[rows, level] = lengths
        rows = np.repeat(rows, lengths)
    sizes = shapes.prod(axis=1)
    stops = np.cumsum(sizes)
    bounds = zip((stops - sizes).tolist(), stops.tolist(), shapes.tolist(), strict=True)
    return [np.array(numbers[start:stop]).reshape(shape) for start, stop, shape in bounds]


def _read_numbers(values: Any, read: Callable[[Any], Array]) -> Array:
    return values.to_numpy(zero_copy_only=False) if values.null_count else read(values)  # nulls are NaN among floats


def _restore(values: Values, dtype: np.dtype[Any], name: str) -> Values:
    """Return values in the dtype that they had before they were put into Arrow's."""
    if not isinstance(values, np.ndarray):
        return [None if value is None else _restore_array(np.asarray(value), dtype, name) for value in values]
    return _restore_array(values, dtype, name)


def _restore_array(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    if values.dtype == dtype:
        return values
    if dtype.isbuiltin == 2 and values.dtype.kind == "u":  # as exports of old versions hold them
        if dtype.itemsize == values.dtype.itemsize:
            return values.view(dtype)
    elif values.dtype.kind in "biuf" or values.dtype.kind == dtype.kind:
        with np.errstate(all="ignore"):
            cast = values.astype(dtype)
        if np.array_equal(cast.astype(values.dtype), values, equal_nan=values.dtype.kind in "fmM"):
            return cast
    raise InvalidInputError(f"column {name!r}: expected values of {dtype}, found {values.dtype}")
