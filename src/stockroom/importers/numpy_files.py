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

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.exported import join_sources
from stockroom.importers.exported_npz import take_exported_npz
from stockroom.importers.limits import MAX_COLUMNS, Limits
from stockroom.importers.npy import NpyHeader, iter_npy_map, iter_npy_stream, read_npy_header
from stockroom.importers.source import ColumnSource, Importer, ImportSpec, Source
from stockroom.importers.streams import MAX_DEFLATE_RATIO, translate_read_errors


class NumpyImporter(Importer):
    """Reads `.npy` and `.npz` files, but no objects and no pickles."""

    name = "numpy"

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return a column per array of the files `spec.paths`, relative to `spec.root` if given."""
        exported, spec = take_exported_npz(spec)
        if exported and not spec.paths:
            return exported
        columns: list[ColumnSource] = []
        origins: dict[str, Path] = {}
        for path, file in zip(spec.paths, spec.list_paths(".npy or .npz"), strict=True):
            for column in _open_file(file, spec.limits):
                if column.name in origins:
                    raise InvalidInputError(
                        f"{path} and {origins[column.name]} both become column {column.name!r}; rename one"
                    )
                origins[column.name] = path
                columns.append(column)
        return join_sources(exported, columns)


def _open_file(path: Path, limits: Limits) -> list[ColumnSource]:
    match path.suffix:
        case ".npy":
            return [_open_npy(path)]
        case ".npz":
            with _open_zip(path) as archive:
                limits.check(len(archive.infolist()), MAX_COLUMNS, "arrays", where=path)
                return [_open_member(path, archive, member) for member in archive.infolist()]
        case _:
            raise InvalidInputError(f"{path}: expected a name ending in .npy or .npz")


def _open_npy(path: Path) -> ColumnSource:
    with translate_read_errors(path), path.open("rb") as stream:
        header = read_npy_header(stream, nbytes=path.stat().st_size, where=str(path))
    return _describe(path.stem, header, partial(_iter_file, path, header))


def _iter_file(path: Path, header: NpyHeader) -> Iterator[NDArray[Any]]:
    with translate_read_errors(path):
        if not header.streams:
            yield from iter_npy_map(path, header)
            return
        with path.open("rb") as stream:
            stream.seek(header.header_nbytes)
            yield from iter_npy_stream(stream, header, where=str(path))


def _describe(name: str, header: NpyHeader, batches: partial[Iterator[NDArray[Any]]]) -> ColumnSource:
    return ColumnSource(name, header.dtype.newbyteorder("="), header.shape[1:], header.shape[0], batches)


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ColumnSource:
    where = f"{path}:{member.filename}"
    if not member.filename.endswith(".npy"):
        raise InvalidInputError(f"{where}: expected only .npy members in an .npz file")
    if member.file_size > member.compress_size * MAX_DEFLATE_RATIO + 1024:
        raise CorruptionError(
            f"{where}: {member.compress_size} compressed bytes cannot hold {member.file_size} bytes", where=where
        )
    with _open_zip_member(archive, member) as stream:
        header = read_npy_header(stream, nbytes=member.file_size, where=where)
    iter_member = _iter_member if header.streams else _iter_spooled_member
    return _describe(member.filename.removesuffix(".npy"), header, partial(iter_member, path, member.filename, header))


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
