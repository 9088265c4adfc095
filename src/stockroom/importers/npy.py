"""The header of numpy's `.npy` format, and streaming of the values after it.

Source: numpy.lib.format. Knows one array's bytes, no columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.source import count_batch_rows
from stockroom.importers.streams import iter_rows
from stockroom.shelves.export.samples import restore_dtype

_READABLE_KINDS = "biufcmM"
_MAX_HEADER_NBYTES = 1 << 14  # more than numpy parses


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """The content of an `.npy` header: `dtype` as stored, `shape` with samples along axis 0, and the values' offset."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    header_nbytes: int

    @property
    def nbytes(self) -> int:
        """The bytes of header and values together."""
        return self.header_nbytes + self.dtype.itemsize * math.prod(self.shape)

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, dates or durations."""
        return self.dtype.kind in _READABLE_KINDS

    @property
    def streams(self) -> bool:
        """Whether samples follow each other in the file, which they do not in Fortran order."""
        return not self.fortran_order or len(self.shape) == 1


def read_npy_header(stream: BufferedIOBase, *, nbytes: int, where: str) -> NpyHeader:
    """Read the header at the start of `stream`, and check it against `nbytes`, the length of the whole.

    The header may be that of any array, also of objects, whose length it does not say. Raises `InvalidInputError`
    naming `where` if there is none, `CorruptionError` if header and length disagree.
    """
    header = _parse_header(stream, where)
    if any(length < 0 for length in header.shape):
        raise InvalidInputError(f"{where}: not an .npy array: found shape {header.shape}")
    if header.nbytes != nbytes and not header.dtype.hasobject:
        raise CorruptionError(
            f"{where}: expected {header.nbytes} bytes for shape {header.shape} of {header.dtype.name}, found {nbytes}",
            where=where,
        )
    return header


def iter_npy_stream(stream: BufferedIOBase, header: NpyHeader, *, where: str) -> Iterator[NDArray[Any]]:
    """Yield batches `(n, *shape[1:])` from a stream positioned after its header. Requires `header.streams`."""
    return iter_rows(stream, header.dtype, shape=header.shape[1:], rows=header.shape[0], where=where)


def iter_npy_map(path: Path, header: NpyHeader) -> Iterator[NDArray[Any]]:
    """Yield batches as `iter_npy_stream` does, from a mapped file whose samples need not stream."""
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    if math.prod(header.shape) == 0:
        return
    values = np.memmap(path, header.dtype, mode="r", offset=header.header_nbytes, shape=header.shape, order=order)
    rows = count_batch_rows(header.dtype, header.shape[1:])
    for start in range(0, len(values), rows):
        yield np.array(values[start : start + rows], header.dtype.newbyteorder("="), order="C", subok=False)


def _parse_header(stream: BufferedIOBase, where: str) -> NpyHeader:
    start = BytesIO(stream.read(_MAX_HEADER_NBYTES))
    try:
        version = npy_format.read_magic(start)
        if version == (1, 0):
            shape, fortran_order, dtype = npy_format.read_array_header_1_0(start)
        else:
            # Version 3.0 differs from 2.0 in UTF-8 names of fields, and structured arrays are rejected anyway.
            shape, fortran_order, dtype = npy_format.read_array_header_2_0(start)
    except Exception as error:  # numpy parses the header as Python literals and passes on their errors
        raise InvalidInputError(f"{where}: not an .npy array: {error}") from error
    stream.seek(start.tell())
    return NpyHeader(restore_dtype(dtype), shape, fortran_order, start.tell())
