"""`stock import numpy a.npy b.npz`: one column per array, with samples along its first axis.

Owns the choice of names, and how each kind of file is streamed. A column takes the stem of its `.npy` file, or its name
within the `.npz`.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError, InvalidNameError
from stockroom.importers.array_columns import FoundArray, keep_fit
from stockroom.importers.column_names import name_columns
from stockroom.importers.exported.npz_file import take_exported_npz
from stockroom.importers.exported.sources import join_sources
from stockroom.importers.left_out import LeftOut
from stockroom.importers.limits import MAX_COLUMNS, Limits
from stockroom.importers.npy import NpyHeader, iter_npy_map, iter_npy_stream, read_npy_header
from stockroom.importers.source import Importer, ImportSpec, Source
from stockroom.importers.streams import MAX_DEFLATE_RATIO, translate_read_errors
from stockroom.refs import check_name


class NumpyImporter(Importer):
    """Reads `.npy` and `.npz` files, but no objects and no pickles."""

    name = "numpy"

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return a column per array of the files `spec.paths`, relative to `spec.root` if given."""
        exported, spec = take_exported_npz(spec)
        if exported and not spec.paths:
            return exported
        arrays: dict[str, FoundArray] = {}
        origins: dict[str, Path] = {}
        left_out = LeftOut()
        for path, file in zip(spec.paths, spec.list_paths(".npy or .npz"), strict=True):
            for title, array in _open_file(file, spec.limits, left_out).items():
                name = _name_column(title, file)
                if name in origins:
                    raise InvalidInputError(f"{path} and {origins[name]} both become column {name!r}; rename one")
                origins[name], arrays[name] = path, array
        columns = [array.make_column(name) for name, array in keep_fit(arrays, left_out).items()]
        columns[0].left_out.merge(left_out)
        return join_sources(exported, columns)


def _name_column(title: str, file: Path) -> str:
    """Return the title itself, or a name made from it if it is none."""
    try:
        check_name("column", title)
    except InvalidNameError:
        return name_columns([title], str(file))[title]
    return title


def _open_file(path: Path, limits: Limits, left_out: LeftOut) -> dict[str, FoundArray]:
    match path.suffix:
        case ".npy":
            found = {path.stem: _open_npy(path)}
        case ".npz":
            with _open_zip(path) as archive:
                limits.check(len(archive.infolist()), MAX_COLUMNS, "arrays", where=path)
                found = _open_members(path, archive, left_out)
        case _:
            raise InvalidInputError(f"{path}: expected a name ending in .npy or .npz")
    if not found:
        raise InvalidInputError(f"{path}: expected arrays, found none")
    return found


def _open_npy(path: Path) -> FoundArray:
    with translate_read_errors(path), path.open("rb") as stream:
        header = read_npy_header(stream, nbytes=path.stat().st_size, where=str(path))
    return FoundArray(str(path), header.dtype, header.shape, partial(_iter_file, path, header))


def _iter_file(path: Path, header: NpyHeader) -> Iterator[NDArray[Any]]:
    with translate_read_errors(path):
        if not header.streams:
            yield from iter_npy_map(path, header)
            return
        with path.open("rb") as stream:
            stream.seek(header.header_nbytes)
            yield from iter_npy_stream(stream, header, where=str(path))


def _open_members(path: Path, archive: zipfile.ZipFile, left_out: LeftOut) -> dict[str, FoundArray]:
    found: dict[str, FoundArray] = {}
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            left_out.add(f"{path}: {member.filename!r:.80}", "other file")
            continue
        name = member.filename.removesuffix(".npy")
        if name in found:
            raise InvalidInputError(f"{path}: expected one array {name!r:.80}, found two")
        found[name] = _open_member(path, archive, member)
    return found


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> FoundArray:
    where = f"{path}:{member.filename}"
    if member.file_size > member.compress_size * MAX_DEFLATE_RATIO + 1024:
        raise CorruptionError(
            f"{where}: {member.compress_size} compressed bytes cannot hold {member.file_size} bytes", where=where
        )
    with _open_zip_member(archive, member) as stream:
        header = read_npy_header(stream, nbytes=member.file_size, where=where)
    iter_member = _iter_member if header.streams else _iter_spooled_member
    return FoundArray(where, header.dtype, header.shape, partial(iter_member, path, member.filename, header))


def _iter_member(path: Path, filename: str, header: NpyHeader) -> Iterator[NDArray[Any]]:
    """Yield batches directly from the archive."""
    with _open_zip(path) as archive, _open_zip_member(archive, archive.getinfo(filename)) as stream:
        stream.read(header.header_nbytes)
        yield from iter_npy_stream(stream, header, where=f"{path}:{filename}")


def _iter_spooled_member(path: Path, filename: str, header: NpyHeader) -> Iterator[NDArray[Any]]:
    """Yield batches through a temporary file: in Fortran order a sample is scattered over the whole member."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as spool:
        with _open_zip(path) as archive, _open_zip_member(archive, archive.getinfo(filename)) as stream:
            shutil.copyfileobj(stream, spool, 1 << 20)
        spool.flush()
        if Path(spool.name).stat().st_size != header.nbytes:
            raise CorruptionError(f"{path}:{filename}: expected {header.nbytes} bytes, found others", where=str(path))
        yield from iter_npy_map(Path(spool.name), header)


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield the archive, with all of its errors translated to ours."""
    with translate_read_errors(path, "not a complete .npz archive"), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _open_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[BufferedIOBase]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidInputError(f"{archive.filename}:{member.filename}: expected a stored or deflated member")
    with archive.open(member) as stream:
        yield cast(BufferedIOBase, stream)  # a ZipExtFile, which is one
