"""`stock import webdataset SHARD.tar...`: files of one base name are one row, and their endings name the columns.

Owns the column type of each ending. Nothing is unpacked: names in an archive are text, never paths.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.exported.tar_file import open_exported_tar
from stockroom.importers.left_out import LeftOut
from stockroom.importers.limits import Limits
from stockroom.importers.npy import read_npy_header
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, KeyedSource, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.importers.tar_archive import open_tar
from stockroom.shelves.data.images import check_image
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

MAX_MEMBER_NBYTES: Final = 1 << 30
MAX_ROW_NBYTES: Final = 1 << 30
_ENDING: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}")
_IMAGES: Final = ("jpg", "jpeg", "png", "webp", "bmp")
_MAX_ROWS_AT_ONCE: Final = 4096
_MAX_COLUMNS: Final = 1000
_META: Final = re.compile(r"__[^/]*__($|[/.])")
"""How names of metadata begin, such as `__index__/0.json`; webdataset skips most of them."""

_Decode: TypeAlias = Callable[[bytes, str], Any]


class WebDatasetImporter(Importer):
    """Reads tar archives, also compressed. Images stay the files they are."""

    name = "webdataset"

    def open(self, spec: ImportSpec) -> Sequence[TableSource | KeyedSource]:
        """Return the table of the rows of all archives. Reads the names in them, since every ending is a column."""
        paths = spec.list_paths(".tar")
        if (exported := open_exported_tar(paths, spec.limits)) is not None:
            return [exported]
        left_out = LeftOut()
        skipped: list[str] = []
        endings, count = _list_endings(paths, spec, left_out, skipped)
        if not endings:
            beside = f"; left out {left_out.summarize()}" if left_out else ""
            reason = "; ".join(["", *skipped[:1]])
            raise InvalidInputError(
                f"{paths[0]}: expected files such as 0001.jpg and 0001.cls, found none{beside}{reason}"
            )
        plans = [ColumnPlan("key", Schema("str", (None,))), *map(_plan, endings)]
        batches = partial(_iter_batches, paths, spec, skipped)
        return [TableSource(paths[0].name, plans, count, batches, skipped, left_out)]


@dataclass(slots=True)
class _Row:
    """The members of one base name, by column: the ending of each, and its bytes if they are read.

    `problem` says why the row cannot be imported.
    """

    key: str
    members: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    nbytes: int = 0
    problem: str = ""


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


def _list_endings(
    paths: Sequence[Path], spec: ImportSpec, left_out: LeftOut, skipped: list[str]
) -> tuple[list[str], int]:
    """Return every ending in the archives, and the number of rows."""
    endings: dict[str, str] = {}
    count = 0
    for path in paths:
        order = _Order()
        for row in _iter_whole_rows(path, spec, left_out, skipped, read=False):
            order.add(row.key)
            if row.problem and not spec.skip_broken:
                raise CorruptionError(row.problem, where=str(path))
            count += not row.problem
            for column, (ending, _) in row.members.items():
                known = endings.setdefault(column, ending.lower())
                if known != ending.lower():
                    raise InvalidInputError(
                        f"{path}: the extensions {known!r} and {ending!r} both become column {column!r}; rename one"
                    )
            spec.limits.check(len(endings), _MAX_COLUMNS, "extensions of names such as 0001.jpg", where=path)
        if not order.is_kept:
            _refuse_scattered(path, spec)
    return list(endings.values()), count


@dataclass(slots=True)
class _Order:
    """Whether keys increase, as text or with shorter ones first: then no key can occur twice."""

    last: str = ""
    by_text: bool = True
    by_length: bool = True

    @property
    def is_kept(self) -> bool:
        """Whether every key so far came after the one before it."""
        return self.by_text or self.by_length

    def add(self, key: str) -> None:
        """Look at the next key."""
        self.by_text = self.by_text and self.last < key
        self.by_length = self.by_length and (len(self.last), self.last) < (len(key), key)
        self.last = key


def _refuse_scattered(path: Path, spec: ImportSpec) -> None:
    """Raise `InvalidInputError` if the members of a row are not side by side. Holds 8 bytes for each row."""
    keys = array("q", (hash(row.key) for row in _iter_whole_rows(path, spec, LeftOut(), [], read=False)))
    hashes = np.sort(np.frombuffer(keys, np.int64))
    doubtful = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen = set()
    for row in _iter_whole_rows(path, spec, LeftOut(), [], read=False) if doubtful else ():
        if row.key in seen:
            raise InvalidInputError(
                f"{path}: expected the files of a row side by side, found those of {row.key!r:.80} in two places; "
                "write the archive again in order, as with `tar --sort=name`"
            )
        if hash(row.key) in doubtful:
            seen.add(row.key)


def _iter_batches(paths: Sequence[Path], spec: ImportSpec, skipped: list[str]) -> Iterator[dict[str, Values]]:
    skipped.clear()
    rows: list[dict[str, Any]] = []
    nbytes = 0
    decoders = _DECODERS | (_IMAGE_CHECKS if spec.skip_broken and find_spec("PIL") else {})
    for path in paths:
        for row in _iter_whole_rows(path, spec, LeftOut(), skipped, read=True):
            try:
                rows.append(_decode_row(row, path, decoders))
            except (CorruptionError, InvalidInputError) as error:
                if not spec.skip_broken:
                    raise
                skipped.append(f"row {row.key!r:.80}: {error}")
                continue
            nbytes += row.nbytes
            if nbytes >= BATCH_NBYTES or len(rows) >= _MAX_ROWS_AT_ONCE:
                yield _transpose(rows)
                rows, nbytes = [], 0
    if rows:
        yield _transpose(rows)


def _iter_whole_rows(
    path: Path, spec: ImportSpec, left_out: LeftOut, skipped: list[str], *, read: bool
) -> Iterator[_Row]:
    """Yield the rows of an archive; of a damaged one, if such input is skipped, those before the damage."""
    row = None
    try:
        for row in _iter_rows(path, spec.limits, left_out, read=read):
            yield row
    except CorruptionError as error:
        if not spec.skip_broken:
            raise
        rest = "no row of it is whole" if row is None else f"nothing after row {row.key!r:.80} is imported"
        skipped.append(f"{error}; {rest}")


def _iter_rows(path: Path, limits: Limits, left_out: LeftOut, *, read: bool) -> Iterator[_Row]:
    """Yield rows, each a run of members with one base name, once the next one or the archive's end shows it whole."""
    row: _Row | None = None
    for name, read_data in _iter_members(path, limits, left_out):
        base, ending = split_name(name)
        if row is not None and row.key != base:
            yield row
            row = None
        row = row or _Row(base)
        column, data = _name_column(ending), read_data() if read else b""
        row.nbytes += len(data)
        limits.check(row.nbytes, MAX_ROW_NBYTES, "bytes of a row", where=f"{path}: {base!r:.80}")
        limits.check(len(row.members), _MAX_COLUMNS, "files of a row", where=f"{path}: {base!r:.80}")
        if column in row.members:
            other = row.members[column][0]
            row.problem = f"{path}: {name!r:.80} occurs twice{f', also with {other!r}' if other != ending else ''}"
        row.members[column] = ending, data
    if row is not None:
        yield row


def _decode_row(row: _Row, path: Path, decoders: Mapping[str, _Decode]) -> dict[str, Any]:
    if row.problem:
        raise CorruptionError(row.problem, where=str(path))
    values: dict[str, Any] = {"key": row.key}
    for column, (ending, data) in row.members.items():
        decode = decoders.get(ending.lower().rpartition(".")[2])
        where = f"{path}: {f'{row.key}.{ending}'!r:.80}"
        with translate_read_errors(where, "its content does not match its extension"):
            values[column] = data if decode is None else decode(data, where)
    return values


def _decode_json(data: bytes, _where: str) -> str:
    text = data.decode()
    json.loads(text)
    return text


def _decode_npy(data: bytes, where: str) -> Any:
    header = read_npy_header(io.BytesIO(data), nbytes=len(data), where=where)
    if not header.is_numeric:
        raise InvalidInputError(f"{where}: expected numbers, found dtype {header.dtype}")
    values = np.load(io.BytesIO(data), allow_pickle=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_picture(data: bytes, where: str) -> bytes:
    check_image(data, where)
    return data


def _decode_text(data: bytes, _where: str) -> str:
    return data.decode()


def _decode_class(data: bytes, _where: str) -> np.int64:
    number = int(data.decode("ascii"))
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} does not fit 64 bits")
    return np.int64(number)


_DECODERS: Final[dict[str, _Decode]] = {
    "txt": _decode_text,
    "text": _decode_text,
    "json": _decode_json,
    "npy": _decode_npy,
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id"), _decode_class),
}


_IMAGE_CHECKS: Final[dict[str, _Decode]] = dict.fromkeys(_IMAGES, _check_picture)


def _transpose(rows: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _iter_members(path: Path, limits: Limits, left_out: LeftOut) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the names of the files in an archive that belong to rows, and what reads each; count the others."""
    with open_tar(path, limits) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # or it would remember every name that went by
            name = member.name.removeprefix("./")
            if member.isdir():
                continue  # its files are members too
            if kind := _find_other_kind(member, name):
                left_out.add(f"{path}: {name!r:.80}", kind)
                continue
            _check_member(path, member, limits)
            yield name, partial(_read_member, path, archive, member)


def _read_member(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with translate_read_errors(path, "not a complete tar archive"):
        stream = archive.extractfile(member)
        data = b"" if stream is None else stream.read()
    if len(data) != member.size:
        raise CorruptionError(f"{path}: {member.name!r:.80} is truncated", where=str(path))
    return data


def _find_other_kind(member: tarfile.TarInfo, name: str) -> str | None:
    """Return what a member is that belongs to no row."""
    base, ending = split_name(name)
    if member.issym() or member.islnk():
        return "link"
    if not member.isreg():
        return "special file"
    if _META.match(name):
        return "metadata file"
    if not base or base.endswith("/"):
        return "hidden file"
    if not ending:
        return "extensionless file"
    return None if _ENDING.fullmatch(ending) and _name_column(ending) else "unusual name"


def _check_member(path: Path, member: tarfile.TarInfo, limits: Limits) -> None:
    limits.check(member.size, MAX_MEMBER_NBYTES, "bytes of a file", where=f"{path}: {member.name!r:.80}")
    if member.issparse():
        raise InvalidInputError(f"{path}: expected plain files, found {member.name!r:.80}, which is sparse")
