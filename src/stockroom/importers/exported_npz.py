"""Reads back the `.npz` files that `stock export` wrote, whose comment holds a mark: one column, with its keys."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.importers.exported import (
    Keyed,
    iter_grouped,
    iter_stacked,
    make_empty,
    make_source,
    parse_mark,
    parse_npy,
)
from stockroom.importers.limits import Limits
from stockroom.importers.source import ColumnSource, KeyedSource
from stockroom.importers.streams import MAX_DEFLATE_RATIO, translate_read_errors
from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.mark import ExportMark

_MAX_MEMBER_NBYTES: Final = 1 << 30
_DAMAGE: Final = "not a complete .npz archive"


def open_exported_npz(
    path: Path,
    archive: zipfile.ZipFile,
    limits: Limits,
    open_member: Callable[[zipfile.ZipInfo], ColumnSource],
) -> KeyedSource | None:
    """Return the source of an archive that has a mark, or None; `open_member` opens an array that is streamed."""
    mark = parse_mark(archive.comment)
    if mark is None:
        return None
    keys = None if mark.keys is None else _load(archive, mark.keys, limits).tolist()
    if mark.array is None:
        listed = range(len(archive.infolist())) if keys is None else keys
        return make_source(mark, len(listed), partial(_iter_each, path, mark, listed, limits))
    if mark.dtype == "str" or 0 in mark.shape:
        return make_source(mark, None, partial(_iter_whole, path, mark, keys, limits))
    source = open_member(archive.getinfo(f"{mark.array}.npy"))
    return make_source(mark, source.count, lambda: iter_stacked(source.batches(), keys))


def _iter_each(path: Path, mark: ExportMark, keys: Sequence[Any], limits: Limits) -> Iterator[Keyed]:
    with translate_read_errors(path, _DAMAGE), zipfile.ZipFile(path) as archive:
        arrays = ((key, _load(archive, name_file(key, keeps_dots=False), limits)) for key in keys)
        yield from iter_grouped((key, _as_sample(array, mark)) for key, array in arrays)


def _as_sample(array: NDArray[Any], mark: ExportMark) -> Any:
    return array.tobytes() if mark.dtype == "bytes" else array


def _iter_whole(path: Path, mark: ExportMark, keys: Sequence[Any] | None, limits: Limits) -> Iterator[Keyed]:
    """Yield the samples of text, or of no values, which are few bytes in all."""
    with translate_read_errors(path, _DAMAGE), zipfile.ZipFile(path) as archive:
        array = _load(archive, str(mark.array), limits)
    limits.check_expansion(math.prod(array.shape[:1]), path, stored_nbytes=path.stat().st_size)
    if mark.dtype != "str":
        yield from iter_stacked([make_empty(mark, len(array))], keys)
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
        if member.file_size > member.compress_size * MAX_DEFLATE_RATIO + 1024:
            raise CorruptionError(f"{where}: {member.compress_size} bytes cannot hold {member.file_size}", where=where)
        return parse_npy(archive.read(member), where)
