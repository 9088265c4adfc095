"""Exports to Zarr version 3: one array, or a group."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.samples import Samples, as_plain, plain_dtype
from stockroom.store.dtypes import format_dtype

_CHUNK_NBYTES: Final = 1 << 20


def write_zarr(samples: Samples, folder: Path) -> None:
    """Write samples of one shape as one array, in a group with `keys` unless these are 0, 1, 2 and so on.

    Arrays of varying shapes become a group with one array for each, named by its key.
    """
    column = samples.stored
    if isinstance(column.dtype, str):
        raise samples.refuse("Zarr", "give a name that ends in .parquet or .tar, or a folder")
    if not samples.is_one_array:
        group = zarr.open_group(str(folder), mode="w", zarr_format=3)
        for key, sample in samples.iter_samples():
            array = _create(group, name_file(key, keeps_dots=False), sample.shape, sample.shape, column.dtype)
            array[...] = _as_stored(sample)
        return
    shape = (len(samples), *(length or 0 for length in column.shape))
    rows = max(1, _CHUNK_NBYTES // max(1, column.dtype.itemsize * math.prod(shape[1:])))
    chunks = (max(1, min(rows, shape[0])), *shape[1:])
    if samples.is_numbered:
        array = _create(str(folder), "", shape, chunks, column.dtype)
    else:
        group = zarr.open_group(str(folder), mode="w", zarr_format=3)
        array = _create(group, samples.name.replace("/", "%2F"), shape, chunks, column.dtype)
        _write_keys(group, samples)
    start = 0
    for _, batch in samples.iter_batches():
        array[start : start + len(batch)] = _as_stored(batch)
        start += len(batch)


def _create(store: Any, name: str, shape: Any, chunks: Any, dtype: np.dtype[Any]) -> Any:
    """Create an array. Dates, and dtypes that Zarr lacks, become integers, with an attribute for the dtype."""
    plain = np.dtype(np.int64) if dtype.kind in "mM" else plain_dtype(dtype)
    attributes: Any = {} if plain == dtype else {"dtype": format_dtype(dtype)}
    chunks = tuple(max(1, length) for length in chunks)
    if isinstance(store, zarr.Group):
        return store.create_array(name, shape=shape, chunks=chunks, dtype=plain, attributes=attributes)
    return zarr.create_array(store, shape=shape, chunks=chunks, dtype=plain, attributes=attributes, zarr_format=3)


def _as_stored(array: Any) -> Any:
    return array.view(np.int64) if array.dtype.kind in "mM" else as_plain(array)


def _write_keys(group: Any, samples: Samples) -> None:
    """Write int keys as an array, and str keys as a list in the group's attributes."""
    keys = samples.column.keys_at(samples.positions)
    if samples.column.key_type == "int":
        values = np.array(keys, np.int64)
        group.create_array("keys", data=values, chunks=(max(1, len(values)),))
    else:
        group.attrs["keys"] = [list(key) if isinstance(key, tuple) else key for key in keys]
