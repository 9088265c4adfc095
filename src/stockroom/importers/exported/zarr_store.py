"""Reads back the Zarr arrays and groups that `stock export` wrote, whose attributes hold a record: one column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from stockroom.errors import InvalidInputError
from stockroom.importers.exported.sources import (
    Keyed,
    convert_record,
    iter_grouped,
    iter_stacked,
    make_empty,
    make_source,
)
from stockroom.importers.limits import Limits
from stockroom.importers.source import Batch, KeyedSource, count_batch_rows
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.zarr_codecs import MAX_CHUNK_NBYTES
from stockroom.shelves.export.export_record import RECORD_NAME, ExportRecord, choose_array_names
from stockroom.shelves.export.file_names import name_file
from stockroom.store.dtypes import parse_dtype
from stockroom.store.wide_floats import is_extension, narrow


def open_exported_zarr(path: Path, node: Any, limits: Limits, stored_nbytes: int) -> KeyedSource | None:
    """Return the source of an array or group that has a record, or None."""
    check = partial(_check_sizes, path, limits, stored_nbytes)
    attributes = dict(node.attrs)
    record = convert_record(attributes.pop(RECORD_NAME, None))
    if record is None:
        return None
    if record.sample_keys is not None:
        names = choose_array_names([name_file(key, keeps_dots=False) for key in record.sample_keys])
        arrays = [_get_array(path, node, name) for name in names]
        check(arrays)
        batches = partial(_iter_each, path, record, arrays)
        return make_source(record, len(names), batches, _read_attrs(record, attributes))
    array = node if record.array is None else _get_array(path, node, record.array)
    check([array])
    keys = None if record.keys is None else _read_keys(path, node, record, check)
    if record.array is not None:
        attributes = dict(array.attrs)
    if 0 in record.shape:
        empty = make_empty(record, array.shape[0])
        return make_source(record, len(empty), lambda: iter_stacked([empty], keys), _read_attrs(record, attributes))
    batches = partial(_iter_stacked, path, record, array, keys)
    return make_source(record, array.shape[0], batches, _read_attrs(record, attributes))


def _check_sizes(path: Path, limits: Limits, stored_nbytes: int, arrays: Sequence[Any]) -> None:
    """Raise `InvalidInputError` if arrays, or their chunks, are too large for the files that hold them."""
    nbytes = 0
    for array in arrays:
        itemsize = np.dtype(array.dtype).itemsize
        if itemsize * math.prod(array.chunks) > MAX_CHUNK_NBYTES:
            raise InvalidInputError(f"{path}: expected chunks of at most 1 GiB, found {array.chunks} of {array.dtype}")
        nbytes += itemsize * math.prod(max(1, side) for side in array.shape)
    limits.check_expansion(nbytes, path, stored_nbytes=stored_nbytes)


def _iter_stacked(path: Path, record: ExportRecord, array: Any, keys: Sequence[Any] | None) -> Iterator[Keyed]:
    """Yield batches of some 8 MiB, or of whole chunks if one takes more."""
    rows = max(1, count_batch_rows(np.dtype(array.dtype), array.shape[1:]) // array.chunks[0]) * array.chunks[0]
    with translate_read_errors(path, "cannot be read as Zarr"):
        parts = (np.asarray(array[start : start + rows]) for start in range(0, array.shape[0], rows))
        yield from iter_stacked((_restore(part, record) for part in parts), keys)


def _read_attrs(record: ExportRecord, attributes: dict[str, Any]) -> dict[str, Any]:
    return attributes if record.attrs is None else record.attrs


def _get_array(path: Path, node: Any, name: str) -> Any:
    array = node.get(name) if isinstance(node, zarr.Group) else None
    if not isinstance(array, zarr.Array):
        raise InvalidInputError(f"{path}: expected an array {name!r:.80}, which its record names, found none")
    return array


def _read_keys(path: Path, node: Any, record: ExportRecord, check: Callable[[Sequence[Any]], object]) -> Sequence[Any]:
    if record.key_type == "int":
        array = _get_array(path, node, str(record.keys))
        check([array])
        listed: list[Any] = np.asarray(array[...]).tolist()
        return listed
    found = node.attrs.get(record.keys)
    if not isinstance(found, list):
        raise InvalidInputError(f"{path}: expected a list of keys in the attributes, found {type(found).__name__}")
    return [tuple(key) if isinstance(key, list) else key for key in found]


def _iter_each(path: Path, record: ExportRecord, arrays: Sequence[Any]) -> Iterator[Keyed]:
    with translate_read_errors(path, "cannot be read as Zarr"):
        samples = (_restore(np.asarray(array[...]), record) for array in arrays)
        yield from iter_grouped(zip(record.sample_keys or [], samples, strict=True))


def _restore(values: Batch, record: ExportRecord) -> Batch:
    dtype = parse_dtype(record.dtype)
    return narrow(values, dtype) if is_extension(dtype) and values.dtype == np.float32 else values
