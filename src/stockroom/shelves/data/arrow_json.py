"""Reads Arrow's nested values, such as structs and lists of text, as JSON values without loss.

Decimals, dates and times become text as ISO 8601 writes them, times of day and durations whole numbers of their unit,
intervals lists of months, days and nanoseconds, maps lists of pairs. NaN and the infinities are written as Python's
`json` writes and reads them. Types with bytes, and unions, have no such form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as arrow
from pyarrow import compute, types

Reader: TypeAlias = Callable[[Any], list[Any]]
"""Returns the values of an Arrow array, with None for nulls."""


def find_json_reader(kind: Any) -> Reader | None:
    """Return the reader of a type's values, or None if JSON cannot hold them."""
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind) or isinstance(kind, arrow.BaseExtensionType):
        return _find_wrapped_reader(kind)
    if types.is_struct(kind):
        return _find_struct_reader(kind)
    if types.is_map(kind):
        return _find_map_reader(kind)
    if is_list(kind):
        return _find_list_reader(kind)
    return _find_leaf_reader(kind)


def is_list(kind: Any) -> bool:
    """Return whether a type is one of Arrow's kinds of lists."""
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def is_text(kind: Any) -> bool:
    """Return whether a type is one of Arrow's kinds of text."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def spread(array: Any, read: Callable[[Any], Any]) -> list[Any]:
    """Return what `read` returns for the values that are not null, and None for the nulls."""
    if not array.null_count:
        return list(read(array))
    there = iter(read(array.drop_null()))
    return [next(there) if is_valid else None for is_valid in array.is_valid().to_numpy(zero_copy_only=False)]


def read_days(array: Any) -> Any:
    """Return an array without nulls of dates or timestamps as numpy's, in its unit."""
    kind = array.type
    unit = "D" if types.is_date32(kind) else "ms" if types.is_date64(kind) else kind.unit
    return array.cast(arrow.int32() if unit == "D" else arrow.int64()).to_numpy().astype(f"M8[{unit}]")


def read_spans(array: Any) -> Any:
    """Return an array without nulls of times of day or durations as numpy's, in its unit."""
    counts = array.cast(arrow.int32() if types.is_time32(array.type) else arrow.int64())
    return counts.to_numpy().astype(f"m8[{array.type.unit}]")


def _find_leaf_reader(kind: Any) -> Reader | None:
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or is_text(kind):
        return lambda array: list(array.to_pylist())
    if types.is_null(kind):
        return lambda array: [None] * len(array)
    if types.is_decimal(kind):
        return lambda array: spread(array, lambda there: map(str, there.to_pylist()))
    if types.is_date(kind) or types.is_timestamp(kind):
        zone: Any = "UTC" if types.is_timestamp(kind) and kind.tz is not None else "naive"
        return lambda array: spread(
            array, lambda there: np.datetime_as_string(read_days(there), timezone=zone).tolist()
        )
    if types.is_time(kind) or types.is_duration(kind):
        return lambda array: spread(array, lambda there: read_spans(there).astype(np.int64).tolist())
    if types.is_interval(kind):
        return lambda array: spread(array, lambda there: map(list, there.to_pylist()))
    return None


def _find_wrapped_reader(kind: Any) -> Reader | None:
    if isinstance(kind, arrow.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return lambda array: spread(array.storage, lambda there: map(format_uuid, there.to_pylist()))
        if kind.extension_name == "arrow.bool8":
            return lambda array: spread(array.storage, lambda there: map(bool, there.to_pylist()))
        return _after(lambda array: array.storage, find_json_reader(kind.storage_type))
    decode = arrow.DictionaryArray.dictionary_decode if types.is_dictionary(kind) else compute.run_end_decode
    return _after(decode, find_json_reader(kind.value_type))


def _after(unwrap: Callable[[Any], Any], read: Reader | None) -> Reader | None:
    return None if read is None else lambda array: read(unwrap(array))


def format_uuid(data: bytes) -> str:
    """Return 16 bytes as the text of a UUID."""
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _find_struct_reader(kind: Any) -> Reader | None:
    names = [kind.field(number).name for number in range(kind.num_fields)]
    found = [find_json_reader(kind.field(number).type) for number in range(kind.num_fields)]
    readers = [reader for reader in found if reader is not None]
    if len(readers) < len(names) or len(set(names)) < len(names):
        return None

    def read(array: Any) -> list[Any]:
        columns = [reader(part) for reader, part in zip(readers, array.flatten(), strict=True)]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]

    return read


def _find_list_reader(kind: Any) -> Reader | None:
    inner = find_json_reader(kind.value_type)
    if inner is None:
        return None

    return lambda array: _cut(inner(array.flatten()), measure_lists(array), array)


def measure_lists(array: Any) -> Any:
    """Return the lengths of lists, 0 for nulls: `flatten` gives as many values."""
    return compute.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _find_map_reader(kind: Any) -> Reader | None:
    keys, items = find_json_reader(kind.key_type), find_json_reader(kind.item_type)
    if keys is None or items is None:
        return None

    def read(array: Any) -> list[Any]:
        offsets = array.offsets.to_numpy()
        start, count = int(offsets[0]), int(offsets[-1] - offsets[0])
        pairs = zip(keys(array.keys.slice(start, count)), items(array.items.slice(start, count)), strict=True)
        return _cut([list(pair) for pair in pairs], np.diff(offsets), array)

    return read


def _cut(values: list[Any], lengths: Any, array: Any) -> list[Any]:
    """Return lists of these lengths, and None where `array` is null."""
    stops = np.cumsum(lengths).tolist()
    lists = [values[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return [each if there else None for each, there in zip(lists, valid, strict=True)]
