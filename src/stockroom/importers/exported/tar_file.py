"""Reads back the tar archives that `stock export` wrote, whose headers hold a record: one column, with its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError
from stockroom.importers.exported.sources import Keyed, iter_grouped, make_source, parse_npy, parse_record
from stockroom.importers.limits import Limits
from stockroom.importers.source import KeyedSource
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.tar_archive import open_tar
from stockroom.shelves.data.images import decode_image
from stockroom.shelves.export.export_record import ExportRecord
from stockroom.shelves.export.file_names import parse_file_name
from stockroom.shelves.export.single_files import KEY_HEADER, RECORD_HEADER
from stockroom.store.dtypes import parse_dtype

_MAX_MEMBER_NBYTES: Final = 1 << 30


def open_exported_tar(paths: Sequence[Path], limits: Limits) -> KeyedSource | None:
    """Return the source of archives that all have the same record, or None."""
    records = [_read_record(path, limits) for path in paths]
    record = records[0]
    if record is None or any(other != record for other in records):
        return None
    return make_source(record, None, partial(_iter_batches, paths, record, limits))


def _read_record(path: Path, limits: Limits) -> ExportRecord | None:
    with suppress(CorruptionError), open_tar(path, limits, to_end=False) as archive:
        return parse_record(archive.pax_headers.get(RECORD_HEADER, ""))
    return None  # the reader of any archive says what is damaged


def _iter_batches(paths: Sequence[Path], record: ExportRecord, limits: Limits) -> Iterator[Keyed]:
    for path in paths:
        yield from iter_grouped(_iter_samples(path, record, limits))


def _iter_samples(path: Path, record: ExportRecord, limits: Limits) -> Iterator[tuple[Any, Any]]:
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
                yield (int(text) if record.key_type == "int" else text), _decode(data, ending, record, where)


def _decode(data: bytes, ending: str, record: ExportRecord, where: str) -> Any:
    if record.dtype == "str":
        return data.decode("utf-8", "surrogatepass")
    if record.dtype == "bytes":
        return data
    if ending == "cls":
        return np.array(int(data), parse_dtype(record.dtype))
    return decode_image(data, "image", where) if ending == "png" else parse_npy(data, where)
