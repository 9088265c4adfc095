"""Reads back the `.npz` files that `stock export` wrote, whose comment holds a record: one column, with its keys."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final, cast

from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.importers.exported.sources import (
    Keyed,
    iter_grouped,
    iter_stacked,
    make_empty,
    make_source,
    parse_npy,
    parse_record,
    read_npy_head,
)
from stockroom.importers.limits import Limits
from stockroom.importers.source import ImportSpec, KeyedSource
from stockroom.importers.streams import MAX_DEFLATE_RATIO, iter_rows, translate_read_errors
from stockroom.shelves.export.export_record import ExportRecord
from stockroom.shelves.export.file_names import name_file

_MAX_MEMBER_NBYTES: Final = 1 << 30
_DAMAGE: Final = "not a complete .npz archive"


def take_exported_npz(spec: ImportSpec) -> tuple[list[KeyedSource], ImportSpec]:
    """Return the sources of the archives in `spec` that have a record, and `spec` without them."""
    found: list[KeyedSource] = []
    others = []
    for path in spec.paths:
        source = _open(path if spec.root is None else spec.root / path, spec.limits)
        if source is None:
            others.append(path)
        else:
            found.append(source)
    return found, replace(spec, paths=tuple(others))


def _open(path: Path, limits: Limits) -> KeyedSource | None:
    if path.suffix != ".npz":
        return None
    with translate_read_errors(path, _DAMAGE), zipfile.ZipFile(path) as archive:
        record = parse_record(archive.comment)
        if record is None:
            return None
        keys = None if record.keys is None else _load(archive, record.keys, limits).tolist()
        count = len(archive.infolist())
    if record.array is None:
        listed = range(count) if keys is None else keys
        return make_source(record, len(listed), partial(_iter_each, path, record, listed, limits))
    if record.dtype == "str" or 0 in record.shape:
        return make_source(record, None, partial(_iter_whole, path, record, keys, limits))
    return make_source(record, None, partial(_iter_stream, path, record, keys))


def _iter_stream(path: Path, record: ExportRecord, keys: Sequence[Any] | None) -> Iterator[Keyed]:
    """Yield the samples of an array that need not fit in memory."""
    where = f"{path}:{record.array}"
    with translate_read_errors(where, _DAMAGE), zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{record.array}.npy")
        _check_ratio(member, where)
        with archive.open(member) as stream:
            dtype, shape = read_npy_head(stream, where)
            if dtype.itemsize * math.prod(shape) > member.file_size:
                raise CorruptionError(f"{where}: {member.file_size} bytes cannot hold shape {shape}", where=where)
            rows = iter_rows(cast("BufferedIOBase", stream), dtype, shape=shape[1:], rows=shape[0], where=where)
            yield from iter_stacked(rows, keys)


def _iter_each(path: Path, record: ExportRecord, keys: Sequence[Any], limits: Limits) -> Iterator[Keyed]:
    with translate_read_errors(path, _DAMAGE), zipfile.ZipFile(path) as archive:
        arrays = ((key, _load(archive, name_file(key, keeps_dots=False), limits)) for key in keys)
        yield from iter_grouped((key, _as_sample(array, record)) for key, array in arrays)


def _as_sample(array: NDArray[Any], record: ExportRecord) -> Any:
    return array.tobytes() if record.dtype == "bytes" else array


def _iter_whole(path: Path, record: ExportRecord, keys: Sequence[Any] | None, limits: Limits) -> Iterator[Keyed]:
    """Yield the samples of text, or of no values, which are few bytes in all."""
    with translate_read_errors(path, _DAMAGE), zipfile.ZipFile(path) as archive:
        array = _load(archive, str(record.array), limits)
    limits.check_expansion(math.prod(array.shape[:1]), path, stored_nbytes=path.stat().st_size)
    if record.dtype != "str":
        yield from iter_stacked([make_empty(record, len(array))], keys)
    elif keys is None:
        yield None, array.tolist()
    else:
        yield from iter_grouped(zip(keys, array.tolist(), strict=True))


def _load(archive: zipfile.ZipFile, name: str, limits: Limits) -> NDArray[Any]:
    """Return one array, read whole."""
    where = f"{archive.filename}:{name}"
    with translate_read_errors(where, _DAMAGE):
        member = archive.getinfo(f"{name}.npy")
        limits.check(member.file_size, _MAX_MEMBER_NBYTES, "bytes of an array that is read whole", where=where)
        _check_ratio(member, where)
        return parse_npy(archive.read(member), where)


def _check_ratio(member: zipfile.ZipInfo, where: str) -> None:
    if member.file_size > member.compress_size * MAX_DEFLATE_RATIO + 1024:
        raise CorruptionError(f"{where}: {member.compress_size} bytes cannot hold {member.file_size}", where=where)
