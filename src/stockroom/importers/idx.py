"""IDX files, the format of MNIST: plain or gzip, read as a stream.

    offset  size    field
    0       2       zero
    2       1       dtype code (08 u8, 09 i8, 0B i16, 0C i32, 0D f32, 0E f64)
    3       1       number of axes
    4       4*axes  length of each axis, big-endian u32
    ...             values, big-endian, C order

Source: http://yann.lecun.com/exdb/mnist. Knows files only, no data sets.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.streams import MAX_DEFLATE_RATIO, iter_rows, read_exactly, translate_read_errors

MAX_AXES = 32
_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


@dataclass(frozen=True, slots=True)
class IdxHeader:
    """The header of an IDX file: `dtype` as stored (big-endian), and `shape` with samples along axis 0."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the values that follow the header."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def header_nbytes(self) -> int:
        """Bytes of the header itself."""
        return 4 + 4 * len(self.shape)


def read_idx_header(path: Path) -> IdxHeader:
    """Read the header of an IDX file, and check it against the file's length.

    Raises `InvalidInputError` if it is not an IDX file, `CorruptionError` if file and header disagree.
    """
    with translate_read_errors(path), _open_idx(path) as stream:
        header = _parse_header(stream, path)
    _check_length(header, path)
    return header


def iter_idx(path: Path) -> Iterator[NDArray[Any]]:
    """Yield batches `(n, *shape[1:])` of an IDX file's samples, in native byte order, about 8 MiB each.

    Raises as `read_idx_header` does, and `CorruptionError` if a compressed file is too short or too long.
    """
    header = read_idx_header(path)
    with translate_read_errors(path), _open_idx(path) as stream:
        read_exactly(stream, header.header_nbytes, where=str(path))
        yield from iter_rows(stream, header.dtype, shape=header.shape[1:], rows=header.shape[0], where=str(path))


def _open_idx(path: Path) -> BufferedIOBase:
    """Open the file's IDX bytes, decompressed if it starts as gzip does, whatever its name."""
    return gzip.GzipFile(path) if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(2) == _GZIP_MAGIC


def _parse_header(stream: BufferedIOBase, path: Path) -> IdxHeader:
    magic = stream.read(4)
    if len(magic) != 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise InvalidInputError(
            f"{path}: not an IDX file: expected it to start with 00 00, a dtype code and the number of axes, "
            f"found {magic.hex(' ') or 'an empty file'}"
        )
    axes = magic[3]
    if not 1 <= axes <= MAX_AXES:
        raise CorruptionError(f"{path}: expected 1 to {MAX_AXES} axes, found {axes}", where=str(path))
    lengths = struct.unpack(f">{axes}I", read_exactly(stream, 4 * axes, where=str(path)))
    return IdxHeader(_DTYPES[magic[2]], lengths)


def _check_length(header: IdxHeader, path: Path) -> None:
    """Check the header against the file's size before anything is allocated from it."""
    size, compressed = path.stat().st_size, _is_gzip(path)
    if 0 in header.shape[1:]:
        raise CorruptionError(f"{path}: its header describes samples without values: {header.shape}", where=str(path))
    expected = header.header_nbytes + header.nbytes
    fits = expected <= size * MAX_DEFLATE_RATIO if compressed else expected == size
    if not fits:
        raise CorruptionError(
            f"{path}: expected {expected} bytes for its shape {header.shape}, found {size} "
            f"{'compressed ' if compressed else ''}bytes; download the file again",
            where=str(path),
        )
