"""`stock import zarr PATH`: a column per array of a Zarr array or group, version 2 or 3; samples lie along axis 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.importers.column_names import name_columns
from stockroom.importers.exported_zarr import open_exported_zarr
from stockroom.importers.source import Batch, ColumnSource, Importer, ImportSpec, KeyedSource, count_batch_rows
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.zarr_codecs import MAX_CHUNK_NBYTES, open_checked
from stockroom.store.dtypes import format_dtype

_MAX_ARRAYS: Final = 10_000
_DAMAGE: Final = "cannot be read as Zarr"


class ZarrImporter(Importer):
    """Reads folders and zip files that hold Zarr arrays, through zarr."""

    name = "zarr"

    def open(self, spec: ImportSpec) -> Sequence[ColumnSource | KeyedSource]:
        """Return a column per array, named by its path in the group, or by the folder if PATH is a single array."""
        if len(spec.paths) != 1:
            raise InvalidInputError(f"expected one Zarr array or group to import, found {len(spec.paths)}")
        path = (spec.root or Path()) / spec.paths[0]
        if not path.exists():
            raise InvalidInputError(f"{path}: no such file or folder")
        with translate_read_errors(path, _DAMAGE):
            node = _open_node(path)
            if (exported := open_exported_zarr(path, node, spec.limits, _measure_stored(path))) is not None:
                return [exported]
            arrays = _list_arrays(path, node)
            names = name_columns(arrays, str(path), spec.limits)
            columns = [_describe(path, title, array, names[title]) for title, array in arrays.items()]
        nbytes = sum(column.dtype.itemsize * math.prod(column.shape) * (column.count or 0) for column in columns)
        spec.limits.check_expansion(nbytes, path, stored_nbytes=_measure_stored(path))
        return columns


def _measure_stored(path: Path) -> int:
    """Return the bytes of a zip file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _open_node(path: Path) -> Any:
    try:
        return zarr.open(open_checked(path), mode="r")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: expected a Zarr array or group, found none") from error


def _list_arrays(path: Path, node: Any) -> dict[str, Any]:
    if isinstance(node, zarr.Array):
        return {path.name.removesuffix(".zip").removesuffix(".zarr"): node}
    found: dict[str, Any] = {}
    for name, member in node.members(max_depth=None):
        if isinstance(member, zarr.Array):
            found[name] = member
        if len(found) > _MAX_ARRAYS:
            raise InvalidInputError(f"{path}: expected at most {_MAX_ARRAYS} arrays, found more; import parts of it")
    if not found:
        raise InvalidInputError(f"{path}: expected a Zarr array, or a group with some, found none")
    return found


def _describe(path: Path, title: str, array: Any, name: str) -> ColumnSource:
    where = f"{path}: array {title!r}"
    if not array.shape:
        raise InvalidInputError(f"{where}: expected samples along the first axis, found a single value of shape ()")
    if 0 in array.shape[1:]:
        raise InvalidInputError(f"{where}: expected samples that hold values, found shape {array.shape}")
    dtype = np.dtype(array.dtype)
    try:
        format_dtype(dtype)
    except SchemaError as error:
        raise InvalidInputError(f"{where}: expected numbers, found {dtype}") from error
    if dtype.itemsize * math.prod(array.chunks) > MAX_CHUNK_NBYTES:
        raise InvalidInputError(f"{where}: expected chunks of at most 1 GiB, found {array.chunks} of {dtype}")
    native = dtype if dtype.kind == "V" else dtype.newbyteorder("=")
    return ColumnSource(name, native, array.shape[1:], array.shape[0], partial(_iter_batches, path, array, native))


def _iter_batches(path: Path, array: Any, dtype: np.dtype[Any]) -> Iterator[Batch]:
    """Yield batches of some 8 MiB, or of whole chunks if one takes more."""
    with translate_read_errors(path, _DAMAGE):
        per_chunk = (getattr(array, "shards", None) or array.chunks)[0]
        rows = max(1, count_batch_rows(dtype, array.shape[1:]) // per_chunk) * per_chunk
        for start in range(0, array.shape[0], rows):
            yield np.asarray(array[start : start + rows]).astype(dtype, copy=False)
