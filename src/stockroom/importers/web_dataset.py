"""`stock import webdataset SHARD.tar...`: files of one base name are one row, and their endings name the columns.

Owns the column type of each ending. Nothing is unpacked: names in an archive are text, never paths.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.exported_tar import open_exported_tar
from stockroom.importers.limits import Limits
from stockroom.importers.npy import iter_npy_stream, read_npy_header
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, KeyedSource, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.tar_archive import open_tar
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

MAX_MEMBER_NBYTES: Final = 1 << 30
MAX_ROW_NBYTES: Final = 1 << 30
_ENDING: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}")
_IMAGES: Final = ("jpg", "jpeg", "png", "webp", "bmp")
_MAX_ROWS_AT_ONCE: Final = 4096
_MAX_COLUMNS: Final = 1000


class WebDatasetImporter(Importer):
    """Reads tar archives, also compressed. Images stay the files they are."""

    name = "webdataset"

    def open(self, spec: ImportSpec) -> Sequence[TableSource | KeyedSource]:
        """Return the table of the rows of all archives. Reads the names in them, since every ending is a column."""
        paths = spec.list_paths(".tar")
        if (exported := open_exported_tar(paths, spec.limits)) is not None:
            return [exported]
        endings, count = _list_endings(paths, spec.limits)
        if not endings:
            raise InvalidInputError(f"{paths[0]}: expected files such as 0001.jpg and 0001.cls, found none")
        plans = [ColumnPlan("key", Schema("str", (None,))), *map(_plan, endings)]
        return [TableSource(paths[0].name, plans, count, partial(_iter_batches, paths, spec.limits))]


def split_name(name: str) -> tuple[str, str]:
    """Split a name into its base, with folders, and its ending, from the first dot of the file's own name on."""
    folder, slash, file = name.rpartition("/")
    base, _, ending = file.partition(".")
    return folder + slash + base, ending


def _plan(ending: str) -> ColumnPlan:
    last = ending.lower().rpartition(".")[2]
    name = _name_column(ending)
    if last in _IMAGES:
        return ColumnPlan(name, Schema("bytes", (None,)), decoder="image")
    if last in ("txt", "text", "json"):
        return ColumnPlan(name, Schema("str", (None,)))
    if last in ("cls", "cls2", "index", "inx", "id"):
        return ColumnPlan(name, Schema("int64", ()))
    return ColumnPlan(name) if last == "npy" else ColumnPlan(name, Schema("bytes", (None,)))


def _name_column(ending: str) -> str:
    name = ending.lower().strip(".-").replace("..", ".")
    return f"{name}_" if name.endswith(".lock") or name == "key" else name


def _list_endings(paths: Sequence[Path], limits: Limits) -> tuple[list[str], int]:
    """Return every ending in the archives, and the number of rows."""
    endings: dict[str, str] = {}
    count = 0
    for path in paths:
        base = None
        for name, _ in _iter_members(path, limits, read=False):
            found, ending = split_name(name)
            count += found != base
            base = found
            endings.setdefault(_name_column(ending), ending)
            limits.check(len(endings), _MAX_COLUMNS, "extensions of names such as 0001.jpg", where=path)
    return list(endings.values()), count


def _iter_batches(paths: Sequence[Path], limits: Limits) -> Iterator[dict[str, Values]]:
    rows: list[dict[str, Any]] = []
    nbytes = 0
    for path in paths:
        for row, size in _iter_rows(path, limits):
            rows.append(row)
            nbytes += size
            if nbytes >= BATCH_NBYTES or len(rows) >= _MAX_ROWS_AT_ONCE:
                yield _transpose(rows)
                rows, nbytes = [], 0
    if rows:
        yield _transpose(rows)


def _iter_rows(path: Path, limits: Limits) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield rows, each with its number of bytes. A row is a run of members with one base name."""
    row: dict[str, Any] = {}
    nbytes = 0
    for name, data in _iter_members(path, limits, read=True):
        base, ending = split_name(name)
        if row and row["key"] != base:
            yield row, nbytes
            row, nbytes = {}, 0
        column = _name_column(ending)
        nbytes += len(data)
        limits.check(nbytes, MAX_ROW_NBYTES, "bytes of a row", where=f"{path}: {base!r:.80}")
        if column in row:
            raise CorruptionError(f"{path}: {name!r:.80} occurs twice, or also as {ending.upper()!r}", where=str(path))
        row["key"] = base
        row[column] = _decode(ending, data, f"{path}: {name!r:.80}")
    if row:
        yield row, nbytes


def _decode(ending: str, data: bytes, where: str) -> Any:
    decode = _DECODERS.get(ending.lower().rpartition(".")[2])
    if decode is None:
        return data
    with translate_read_errors(where, "its content does not match its extension"):
        return decode(data, where)


def _decode_json(data: bytes, _where: str) -> str:
    text = data.decode()
    json.loads(text)
    return text


def _decode_npy(data: bytes, where: str) -> Any:
    stream: Any = io.BytesIO(data)
    if data[:6] == b"\x93NUMPY" and b"'shape': ()" in data[:256]:
        return np.load(stream, allow_pickle=False)
    header = read_npy_header(stream, nbytes=len(data), where=where)
    if not header.streams:
        return np.load(io.BytesIO(data), allow_pickle=False)
    batches = list(iter_npy_stream(stream, header, where=where))
    return np.concatenate(batches) if batches else np.empty(header.shape, header.dtype)


def _decode_text(data: bytes, _where: str) -> str:
    return data.decode()


def _decode_class(data: bytes, _where: str) -> np.int64:
    number = int(data.decode("ascii"))
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} does not fit 64 bits")
    return np.int64(number)


_DECODERS: Final[Mapping[str, Callable[[bytes, str], Any]]] = {
    "txt": _decode_text,
    "text": _decode_text,
    "json": _decode_json,
    "npy": _decode_npy,
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id"), _decode_class),
}


def _transpose(rows: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _iter_members(path: Path, limits: Limits, *, read: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the names of regular files in an archive, without hidden ones, and their bytes if `read`."""
    with open_tar(path, limits) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if not member.isreg() or name.rpartition("/")[2].startswith("."):
                continue
            _check_member(path, member, split_name(name)[1], limits)
            data = b""
            if read:
                stream = archive.extractfile(member)
                data = b"" if stream is None else stream.read()
                if len(data) != member.size:
                    raise CorruptionError(f"{path}: {name!r:.80} is truncated", where=str(path))
            archive.members = []  # type: ignore[attr-defined]  # or it would remember every name that went by
            yield name, data


def _check_member(path: Path, member: tarfile.TarInfo, ending: str, limits: Limits) -> None:
    if not _ENDING.fullmatch(ending) or not _name_column(ending):
        raise InvalidInputError(f"{path}: expected names such as 0001.jpg, found {member.name!r:.80}")
    limits.check(member.size, MAX_MEMBER_NBYTES, "bytes of a file", where=f"{path}: {member.name!r:.80}")
    if member.issparse():
        raise InvalidInputError(f"{path}: expected plain files, found {member.name!r:.80}, which is sparse")
