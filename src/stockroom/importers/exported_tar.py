"""Reads back the tar archives that `stock export` wrote, whose headers hold a mark: one column, with its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError
from stockroom.importers.exported import Keyed, iter_grouped, make_source, parse_mark, parse_npy
from stockroom.importers.limits import Limits
from stockroom.importers.source import KeyedSource
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.tar_archive import open_tar
from stockroom.shelves.data.images import decode_image
from stockroom.shelves.export.file_names import parse_file_name
from stockroom.shelves.export.mark import ExportMark
from stockroom.shelves.export.single_files import KEY_HEADER, MARK_HEADER
from stockroom.store.dtypes import parse_dtype

_MAX_MEMBER_NBYTES: Final = 1 << 30


def open_exported_tar(paths: Sequence[Path], limits: Limits) -> KeyedSource | None:
    """Return the source of archives that all have the same mark, or None."""
    marks = [_read_mark(path, limits) for path in paths]
    mark = marks[0]
    if mark is None or any(other != mark for other in marks):
        return None
    return make_source(mark, None, partial(_iter_batches, paths, mark, limits))


def _read_mark(path: Path, limits: Limits) -> ExportMark | None:
    with open_tar(path, limits, to_end=False) as archive:
        return parse_mark(archive.pax_headers.get(MARK_HEADER, ""))


def _iter_batches(paths: Sequence[Path], mark: ExportMark, limits: Limits) -> Iterator[Keyed]:
    for path in paths:
        yield from iter_grouped(_iter_samples(path, mark, limits))


def _iter_samples(path: Path, mark: ExportMark, limits: Limits) -> Iterator[tuple[Any, Any]]:
    with open_tar(path, limits) as archive:
        for member in archive:
            where = f"{path}: {member.name!r:.80}"
            if not member.isreg() or member.issparse():
                raise CorruptionError(f"{where}: expected a file as exports write it", where=str(path))
            limits.check(member.size, _MAX_MEMBER_NBYTES, "bytes of a file", where=where)
            stream = archive.extractfile(member)
            data = b"" if stream is None else stream.read()
            archive.members = []  # type: ignore[attr-defined]  # or it would remember every name that went by
            name, _, ending = member.name.partition(".")
            with translate_read_errors(where, "its content does not match its extension"):
                key = json.loads(member.pax_headers.get(KEY_HEADER) or "null")
                text = parse_file_name(name) if key is None else key
                yield (int(text) if mark.key_type == "int" else text), _decode(data, ending, mark, where)


def _decode(data: bytes, ending: str, mark: ExportMark, where: str) -> Any:
    if mark.dtype == "str":
        return data.decode("utf-8", "surrogatepass")
    if mark.dtype == "bytes":
        return data
    if ending == "cls":
        return np.array(int(data), parse_dtype(mark.dtype))
    return decode_image(data, "image", where) if ending == "png" else parse_npy(data, where)
