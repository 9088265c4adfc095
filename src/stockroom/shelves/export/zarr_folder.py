"""Exports to Zarr version 3: one array, or a group."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zarr

from stockroom.shelves.export.export_record import RECORD_NAME, ExportRecord, choose_array_names, choose_free_name
from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.samples import Samples
from stockroom.store.wide_floats import widen, widen_dtype

_CHUNK_NBYTES: Final = 1 << 20
_KEYS: Final = "keys"
_DOCUMENT: Final = "zarr.json"


def write_zarr(samples: Samples, folder: Path) -> None:
    """Write samples of one shape as one array, in a group with `keys` unless these are 0, 1, 2 and so on.

    Arrays of varying shapes become a group with one array for each, named by its key. The attributes are the column's
    attrs, and the record of the export. bfloat16 and float8 become float32.
    """
    if isinstance(samples.stored.dtype, str):
        raise samples.refuse("Zarr", "give a name that ends in .parquet or .tar, or a folder")
    if not samples.is_one_array:
        _write_each(samples, folder)
    elif samples.is_numbered:
        _write_one_array(str(folder), "", samples, _attrs_with_record(samples, samples.make_record()))
    else:
        _write_with_keys(samples, folder)


def _write_each(samples: Samples, folder: Path) -> None:
    """Write an array for each sample; the keys are in the record."""
    keys = samples.column.stored_keys_at(samples.positions)
    names = choose_array_names([name_file(key, keeps_dots=False) for key in keys])
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    dtype: Any = samples.stored.dtype
    for (_, sample), name in zip(samples.iter_samples(), names, strict=True):
        _create(group, name, sample.shape, sample.shape, dtype)[...] = widen(sample)
    group.attrs.put(_attrs_with_record(samples, samples.make_record(sample_keys=keys)))


def _write_with_keys(samples: Samples, folder: Path) -> None:
    """Write one array in a group: int keys are another array, and str keys a list in the group's attributes."""
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    keys = samples.column.keys_at(samples.positions)
    is_int = samples.column.key_type == "int"
    name = choose_free_name(samples.name.replace("/", "%2F"), [_DOCUMENT])
    keys_name = choose_free_name(_KEYS, [name] if is_int else [])
    _write_one_array(group, name, samples, samples.attrs)
    record = samples.make_record(array=name, keys=keys_name)
    if is_int:
        values = np.array(keys, np.int64)
        group.create_array(keys_name, data=values, chunks=(max(1, len(values)),))
        group.attrs.put({RECORD_NAME: msgspec.to_builtins(record)})
    else:
        listed = [list(key) if isinstance(key, tuple) else key for key in keys]
        group.attrs.put({keys_name: listed, RECORD_NAME: msgspec.to_builtins(record)})


def _write_one_array(store: Any, name: str, samples: Samples, attributes: dict[str, Any]) -> None:
    column = samples.stored
    dtype: Any = column.dtype
    shape = (len(samples), *(length or 0 for length in column.shape))
    rows = max(1, _CHUNK_NBYTES // max(1, dtype.itemsize * math.prod(shape[1:])))
    array = _create(store, name, shape, (max(1, min(rows, shape[0])), *shape[1:]), dtype, attributes)
    start = 0
    for _, batch in samples.iter_batches():
        array[start : start + len(batch)] = widen(batch)
        start += len(batch)


def _create(store: Any, name: str, shape: Any, chunks: Any, dtype: Any, attributes: Any = None) -> Any:
    chunks = tuple(max(1, length) for length in chunks)
    plain = widen_dtype(dtype)
    if isinstance(store, zarr.Group):
        return store.create_array(name, shape=shape, chunks=chunks, dtype=plain, attributes=attributes or {})
    return zarr.create_array(store, shape=shape, chunks=chunks, dtype=plain, attributes=attributes, zarr_format=3)


def _attrs_with_record(samples: Samples, record: ExportRecord) -> dict[str, Any]:
    """Return the attributes of the array or group that carries the record: the column's attrs, and the record."""
    if RECORD_NAME not in samples.attrs:
        return {**samples.attrs, RECORD_NAME: msgspec.to_builtins(record)}
    return {RECORD_NAME: msgspec.to_builtins(msgspec.structs.replace(record, attrs=samples.attrs))}
