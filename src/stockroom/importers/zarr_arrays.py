"""`stock import zarr PATH`: a column per array of a Zarr array or group, version 2 or 3; samples lie along axis 0.

A column's attrs are the array's attributes. Beside them are `dimension_names`, a `fill_value` other than zero, and
`group`: the attributes of the groups around the array.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from stockroom.errors import InvalidInputError
from stockroom.importers.array_columns import FoundArray, keep_fit
from stockroom.importers.column_attrs import keep_attrs
from stockroom.importers.column_names import name_columns
from stockroom.importers.exported.zarr_store import open_exported_zarr
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import Batch, Importer, ImportSpec, Source, count_batch_rows
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.zarr_codecs import MAX_CHUNK_NBYTES, open_checked

_MAX_ARRAYS: Final = 10_000
_TEXTS_AT_ONCE: Final = 1024
_DAMAGE: Final = "cannot be read as Zarr"


class ZarrImporter(Importer):
    """Reads folders and zip files that hold Zarr arrays, through zarr."""

    name = "zarr"

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return a column per array, named by its path in the group, or by the folder if PATH is a single array."""
        if len(spec.paths) != 1:
            raise InvalidInputError(f"expected one Zarr array or group to import, found {len(spec.paths)}")
        path = (spec.root or Path()) / spec.paths[0]
        if not path.exists():
            raise InvalidInputError(f"{path}: no such file or folder")
        with translate_read_errors(path, _DAMAGE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The data type .* does not have a Zarr V3 specification")
            node, left_out = _open_node(path), LeftOut()
            if (exported := open_exported_zarr(path, node, spec.limits, _measure_stored(path))) is not None:
                return [exported]
            arrays = _list_arrays(path, node)
            groups = _list_group_attributes(node)
            found = {title: _describe(path, title, array, groups, left_out) for title, array in arrays.items()}
            kept = keep_fit(found, left_out)
            names = name_columns(kept, str(path), spec.limits)
        nbytes = sum(array.dtype.itemsize * math.prod(array.shape) for array in kept.values())
        spec.limits.check_expansion(nbytes, path, stored_nbytes=_measure_stored(path))
        columns = [kept[title].make_column(name) for title, name in names.items()]
        columns[0].left_out.merge(left_out)
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


def _list_group_attributes(node: Any) -> dict[str, dict[str, Any]]:
    """Return the attributes of each group that has some, by its path, which ends in `/` or is empty."""
    if isinstance(node, zarr.Array):
        return {}
    members = [(f"{name}/", group) for name, group in node.members(max_depth=None) if isinstance(group, zarr.Group)]
    attributes = {name: group.attrs.asdict() for name, group in [("", node), *members]}
    return {name: found for name, found in sorted(attributes.items()) if found}


def _describe(
    path: Path, title: str, array: Any, groups: Mapping[str, Mapping[str, Any]], left_out: LeftOut
) -> FoundArray:
    where = f"{path}: array {title!r}"
    dtype = np.dtype(array.dtype)
    if dtype.itemsize * math.prod(array.chunks) > MAX_CHUNK_NBYTES:
        raise InvalidInputError(f"{where}: expected chunks of at most 1 GiB, found {array.chunks} of {dtype}")
    text = {"VariableLengthUTF8": "str", "VariableLengthBytes": "bytes"}.get(type(_data_type(array)).__name__, "")
    attrs = keep_attrs(_list_attributes(title, array, groups, left_out, where), where, left_out)
    return FoundArray(where, dtype, array.shape, partial(_iter_batches, path, array, dtype), attrs, text)


def _data_type(array: Any) -> Any:
    """Return zarr's own description of the data type, which versions 2 and 3 of the format keep in two places."""
    return getattr(array.metadata, "data_type", None) or getattr(array.metadata, "dtype", None)


def _list_attributes(
    title: str, array: Any, groups: Mapping[str, Mapping[str, Any]], left_out: LeftOut, where: str
) -> dict[str, Any]:
    """Return an array's attributes and what else describes it; a name that is taken already is counted as left out."""
    document = array.metadata.to_dict()
    others: list[tuple[str, Any]] = []
    if any(name is not None for name in document.get("dimension_names") or ()):
        others.append(("dimension_names", list(document["dimension_names"])))
    if not _is_usual(array.fill_value):
        others.append(("fill_value", document.get("fill_value")))
    around: dict[str, Any] = {}
    for name, attributes in groups.items():
        if title.startswith(name):
            for key in around.keys() & attributes.keys():
                left_out.add(f"{where}: {key!r:.80} of the group around the inner one", "hidden attribute", "attribute")
            around |= attributes
    attrs: dict[str, Any] = array.attrs.asdict()
    for key, value in [*others, *([("group", around)] if around else [])]:
        if key in attrs:
            left_out.add(f"{where}: {key!r}", "hidden attribute", "attribute")
        else:
            attrs[key] = value
    return attrs


def _is_usual(fill_value: Any) -> bool:
    """Return whether a fill value is zero, empty, none, or not a time."""
    if isinstance(fill_value, np.datetime64 | np.timedelta64) and np.isnat(fill_value):
        return True
    return not (any(fill_value.tobytes()) if isinstance(fill_value, np.void) else fill_value)


def _iter_batches(path: Path, array: Any, dtype: np.dtype[Any]) -> Iterator[Batch]:
    """Yield batches of some 8 MiB, or of whole chunks if one takes more; text of any length by some 1,000 samples."""
    native = dtype if dtype.kind in "VTO" else dtype.newbyteorder("=")
    with translate_read_errors(path, _DAMAGE):
        per_chunk = max(1, (getattr(array, "shards", None) or array.chunks)[0])
        most = _TEXTS_AT_ONCE if dtype.kind in "TO" else count_batch_rows(dtype, array.shape[1:])
        rows = max(1, most // per_chunk) * per_chunk
        for start in range(0, array.shape[0], rows):
            yield np.asarray(array[start : start + rows]).astype(native, copy=False)
