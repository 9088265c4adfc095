"""Reads rows from a byte stream: exact lengths, fresh arrays, errors that name the damage.

Owns the step from a file's bytes to batches. Knows no file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError, StockroomError
from stockroom.importers.source import count_batch_rows

MAX_DEFLATE_RATIO = 1032
"""No deflate stream expands by more than this, so a file's size bounds the claims of its header."""


@contextmanager
def translate_read_errors(where: Path | str, damage: str = "damaged or truncated") -> Iterator[None]:
    """Translate every error of a library that reads the file `where` into our own.

    No list of classes is ever complete, so a foreign error becomes `CorruptionError`, which says `damage`. A problem of
    this machine, such as a file that cannot be opened or too little memory, becomes `InvalidInputError`.
    """
    try:
        yield
    except StockroomError:
        raise
    except FileNotFoundError as error:
        raise InvalidInputError(f"{where}: no such file") from error
    except MemoryError as error:
        raise InvalidInputError(f"{where}: cannot be read: not enough memory") from error
    except Exception as error:
        # Libraries also report damage as an OSError without an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise InvalidInputError(f"{where}: cannot be read: {error.strerror}") from error
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise CorruptionError(f"{where}: {damage}: {what}", where=str(where)) from error


def read_exactly(stream: BufferedIOBase, nbytes: int, *, where: str) -> bytes:
    """Read the next `nbytes` bytes. Raises `CorruptionError` naming `where` if the stream ends early."""
    data = stream.read(nbytes)
    if len(data) != nbytes:
        raise CorruptionError(f"{where}: expected {nbytes} more bytes, found {len(data)}", where=where)
    return data


def iter_rows(
    stream: BufferedIOBase, dtype: np.dtype[Any], *, shape: tuple[int, ...], rows: int, where: str
) -> Iterator[NDArray[Any]]:
    """Yield batches `(n, *shape)` of `rows` rows in C order, of about 8 MiB, each a fresh array in native byte order.

    Raises `CorruptionError` naming `where` if the stream holds fewer bytes than `rows` rows, or more.
    """
    batch_rows = count_batch_rows(dtype, shape)
    for start in range(0, rows, batch_rows):
        batch = np.empty((min(batch_rows, rows - start), *shape), dtype)
        filled = _fill(stream, batch)
        if filled != batch.nbytes:
            found = start * dtype.itemsize * math.prod(shape) + filled
            raise _wrong_length(rows, shape, dtype, found=f"found {found}", where=where)
        yield batch.astype(dtype.newbyteorder("="), copy=False)
    if stream.read(1):
        raise _wrong_length(rows, shape, dtype, found="found more", where=where)


def _fill(stream: BufferedIOBase, batch: NDArray[Any]) -> int:
    """Read into `batch` until it is full or the stream ends. Return the number of bytes read."""
    view = batch.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(view) and (count := stream.readinto(view[filled:])):
        filled += count
    return filled


def _wrong_length(
    rows: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, found: str, where: str
) -> CorruptionError:
    expected = rows * dtype.itemsize * math.prod(shape)
    return CorruptionError(
        f"{where}: expected {expected} bytes of data for shape {(rows, *shape)} of {dtype.name}, {found}; "
        "download the file again",
        where=where,
    )
