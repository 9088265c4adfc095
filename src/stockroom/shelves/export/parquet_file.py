"""Exports to Parquet: a column `key` and a column of samples. Needs pyarrow, from the optional extra `tables`.

The values are of types that pyarrow, pandas and datasets all read. What Arrow's types do not say is in the metadata of
the two fields, for importers; and in the metadata under `huggingface`, for datasets.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.shelves.export.export_record import choose_free_name
from stockroom.shelves.export.samples import Array, Samples
from stockroom.store.dtypes import format_dtype
from stockroom.store.wide_floats import widen, widen_dtype

_DATE_UNITS: Final = ("s", "ms", "us", "ns")
_MAX_ITEMS: Final = (1 << 31) - 1


def write_parquet(samples: Samples, path: Path) -> None:
    """Write one row per sample. Arrays of one shape become nested lists of fixed lengths, others nested lists."""
    arrow = _load_arrow()
    from pyarrow import parquet

    field = _make_field(arrow, samples)
    key_type = samples.column.key_type
    kind = arrow.int64() if key_type == "int" else arrow.string()
    key_field = arrow.field(choose_free_name("key", [samples.name]), kind, metadata={"stockroom.key_type": key_type})
    schema = arrow.schema([key_field, field], metadata=_describe_features(samples))
    with parquet.ParquetWriter(path, schema) as writer:
        for keys, batch in samples.iter_batches():
            columns = [_make_keys(arrow, kind, keys, samples), _make_values(arrow, field.type, batch, keys, samples)]
            try:
                writer.write_batch(arrow.record_batch(columns, schema=schema))
            except arrow.ArrowException as error:
                raise samples.refuse("Parquet", f"{error}; use a folder") from error


def _load_arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise InvalidInputError(
            "Parquet needs pyarrow: install it with `pip install 'stockroom-vcs[tables]'`"
        ) from error
    return pyarrow


def _describe_features(samples: Samples) -> dict[str, str]:
    """Return the metadata from which datasets knows images and class names; it infers all other types itself."""
    feature: dict[str, Any] | None = None
    if samples.column.decoder is not None:
        feature = {"_type": "Image"}
    elif _has_classes(samples):
        feature = {"names": samples.attrs["classes"], "_type": "ClassLabel"}
    if feature is None:
        return {}
    return {"huggingface": json.dumps({"info": {"features": {samples.name: feature}}})}


def _has_classes(samples: Samples) -> bool:
    """Return whether the samples are numbers of the class names in the attrs."""
    names, dtype = samples.attrs.get("classes"), samples.stored.dtype
    if isinstance(dtype, str) or dtype.kind not in "iu" or dtype == np.uint64 or samples.stored.shape:
        return False
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    return 0 < len(names) == len(set(names))


def _make_field(arrow: Any, samples: Samples) -> Any:
    """Return the field of the samples; its metadata records the column's schema and attrs."""
    column = samples.stored
    metadata = {"stockroom.attrs": json.dumps(samples.attrs)} if samples.attrs else {}
    if isinstance(column.dtype, str):
        kind = arrow.string() if column.dtype == "str" else arrow.binary()
        if (decoder := samples.column.decoder) is not None:
            metadata["stockroom.decoder"] = decoder
            kind = arrow.struct([("bytes", kind), ("path", arrow.string())])  # as datasets stores images
        return arrow.field(samples.name, kind, metadata=metadata)
    metadata |= {"stockroom.dtype": format_dtype(column.dtype), "stockroom.shape": json.dumps(column.shape)}
    kind = arrow.int64() if _has_classes(samples) else _choose_kind(arrow, samples, column.dtype)
    for length in reversed(column.shape):
        kind = arrow.list_(kind) if None in column.shape or 0 in column.shape else arrow.list_(kind, length)
    return arrow.field(samples.name, kind, metadata=metadata)


def _choose_kind(arrow: Any, samples: Samples, dtype: np.dtype[Any]) -> Any:
    """Return the Arrow type that holds every value of a dtype; raises `InvalidInputError` if there is none."""
    is_date = dtype.kind in "mM" and np.datetime_data(dtype) not in [(unit, 1) for unit in (*_DATE_UNITS, "D")]
    if dtype.kind == "c" or is_date or (dtype.kind == "m" and np.datetime_data(dtype)[0] == "D"):
        raise samples.refuse("Parquet", "use .npz, .npy or .zarr")
    return arrow.from_numpy_dtype(widen_dtype(dtype))


def _make_keys(arrow: Any, kind: Any, keys: list[int | str], samples: Samples) -> Any:
    try:
        return arrow.array(keys, kind)
    except (UnicodeEncodeError, arrow.ArrowException) as error:
        wrong = next((key for key in keys if isinstance(key, str) and _is_broken(key)), keys[0])
        raise samples.refuse_key(wrong, "Parquet", f"{error}; use .npz or a folder") from error


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _make_values(arrow: Any, kind: Any, batch: Any, keys: list[int | str], samples: Samples) -> Any:
    try:
        if isinstance(batch, list) and isinstance(samples.stored.dtype, str):
            if not arrow.types.is_struct(kind):
                return arrow.array(batch, kind)
            paths = arrow.nulls(len(batch), arrow.string())
            return arrow.StructArray.from_arrays([arrow.array(batch, arrow.binary()), paths], fields=list(kind))
        return _make_lists(arrow, kind, batch, keys, samples)
    except (UnicodeEncodeError, arrow.ArrowException) as error:
        raise samples.refuse("Parquet", f"{error}; use a folder") from error


def _make_lists(arrow: Any, kind: Any, batch: Any, keys: list[int | str], samples: Samples) -> Any:
    """Return numbers, in lists for each axis."""
    shape = samples.stored.shape
    value_type = kind
    while arrow.types.is_list(value_type) or arrow.types.is_fixed_size_list(value_type):
        value_type = value_type.value_type
    if None not in shape and 0 not in shape:
        values = _make_numbers(arrow, value_type, np.ascontiguousarray(batch).reshape(-1), samples)
        for length in reversed(shape):
            values = arrow.FixedSizeListArray.from_arrays(values, length)
        return values
    for key, sample in zip(keys, batch, strict=True):
        _check_empty_axes(key, sample.shape, shape, samples)
    return _nest(arrow, value_type, list(batch), samples)


def _make_numbers(arrow: Any, kind: Any, values: Array, samples: Samples) -> Any:
    if np.issubdtype(values.dtype, np.datetime64) and arrow.types.is_date32(kind):
        days = values[~np.isnat(values)].astype(np.int64)
        if len(days) and (days.min() < -(1 << 31) or days.max() >= 1 << 31):
            raise samples.refuse("Parquet", "it has dates of more than 32 bits; use .npz, .npy or .zarr")
    wide = widen(values)
    return arrow.array(wide.astype(np.int64) if arrow.types.is_int64(kind) else wide, kind)


def _check_empty_axes(key: int | str, found: tuple[int, ...], shape: tuple[int | None, ...], samples: Samples) -> None:
    """Raise `InvalidInputError` if an axis of any length lies inside an empty one: lists do not tell its length."""
    first = found.index(0) if 0 in found else len(found)
    if any(length and shape[axis] is None for axis, length in enumerate(found) if axis > first):
        raise InvalidInputError(
            f"column {samples.name!r} has a sample of shape {found} under key {key!r:.80}, which Parquet cannot hold; "
            "use .npz, .zarr, .tar or a folder"
        )


def _nest(arrow: Any, kind: Any, samples: list[Array], source: Samples) -> Any:
    """Return arrays with equal numbers of axes as nested lists: all numbers, and the offsets of each list."""
    lengths = []
    for axis in range(samples[0].ndim):
        own = np.array([sample.shape[axis] for sample in samples], np.int64)
        times = np.array([math.prod(sample.shape[:axis]) for sample in samples], np.int64)
        lengths.append(np.repeat(own, times))
    array = _make_numbers(arrow, kind, np.concatenate([sample.reshape(-1) for sample in samples]), source)
    for each in reversed(lengths):
        offsets = np.concatenate([[0], np.cumsum(each)])
        if offsets[-1] > _MAX_ITEMS:
            raise source.refuse("Parquet", "it takes more than 2,147,483,647 numbers in a list; use .npz or .zarr")
        array = arrow.ListArray.from_arrays(arrow.array(offsets.astype(np.int32)), array)
    return array
