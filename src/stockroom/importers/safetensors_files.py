"""`stock import safetensors FILE...`: a column per tensor, with samples along its first axis.

    offset  size  field
    0       8     length n of the header, little-endian
    8       n     JSON: name -> {dtype, shape, data_offsets: [begin, end] after the header}
    8 + n   ...   values, little-endian, C order

Source: https://huggingface.co/docs/safetensors. To keep a model in one piece, use `stock model import`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.column_names import name_columns
from stockroom.importers.source import Batch, ColumnSource, Importer, ImportSpec, count_batch_rows
from stockroom.importers.streams import read_exactly, translate_read_errors
from stockroom.interop.safetensors_library import DTYPES, TWO_IN_A_BYTE
from stockroom.store.dtypes import parse_dtype

_MAX_HEADER_NBYTES: Final = 100_000_000  # the library's own limit
_DTYPES: Final = {code: name for code, name in DTYPES.items() if name != TWO_IN_A_BYTE}
"""A dtype's name in a file -> its name in columns. No sample has half bytes."""


@dataclass(frozen=True, slots=True)
class _FileTensor:
    """A tensor of a file. Its values begin at `start`, counted from the file's start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class SafetensorsImporter(Importer):
    """Reads safetensors files as tables, without the library."""

    name = "safetensors"

    def open(self, spec: ImportSpec) -> Sequence[ColumnSource]:
        """Return a column per tensor of the files `spec.paths`. Reads their headers."""
        found: dict[str, tuple[Path, _FileTensor]] = {}
        for path in spec.list_paths(".safetensors"):
            for title, tensor in _read_tensors(path).items():
                if title in found:
                    raise InvalidInputError(
                        f"{path} and {found[title][0]} both hold {title!r:.80}; import one at a time"
                    )
                found[title] = path, tensor
        names = name_columns(found, str(spec.paths[0]))
        return [_describe(*found[title], name) for title, name in names.items()]


def _describe(path: Path, tensor: _FileTensor, name: str) -> ColumnSource:
    count, *shape = tensor.shape
    return ColumnSource(name, tensor.dtype, tuple(shape), count, partial(_iter_batches, path, tensor))


def _iter_batches(path: Path, tensor: _FileTensor) -> Iterator[Batch]:
    count, *shape = tensor.shape
    row_nbytes = tensor.dtype.itemsize * math.prod(shape)
    rows = count_batch_rows(tensor.dtype, shape)
    with translate_read_errors(path), path.open("rb") as stream:
        stream.seek(tensor.start)
        for start in range(0, count, rows):
            size = min(rows, count - start)
            data = read_exactly(stream, size * row_nbytes, where=str(path))
            yield np.frombuffer(data, tensor.dtype).reshape(size, *shape)


def _read_tensors(path: Path) -> dict[str, _FileTensor]:
    with translate_read_errors(path), path.open("rb") as stream:
        nbytes = path.stat().st_size
        length = int.from_bytes(read_exactly(stream, 8, where=str(path)), "little")
        if not 2 <= length <= min(nbytes - 8, _MAX_HEADER_NBYTES):
            raise InvalidInputError(f"{path}: not a safetensors file")
        header = _parse_header(read_exactly(stream, length, where=str(path)), path)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not entries:
        raise InvalidInputError(f"{path}: expected tensors, found none")
    return {name: _parse_entry(entry, f"{path}: {name!r:.80}", 8 + length, nbytes) for name, entry in entries.items()}


def _parse_header(data: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except Exception as error:
        raise InvalidInputError(f"{path}: not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise InvalidInputError(f"{path}: not a safetensors file")
    return header


def _parse_entry(entry: Any, where: str, start: int, file_nbytes: int) -> _FileTensor:
    with translate_read_errors(where, "expected dtype, shape and data_offsets, found others"):
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        lengths_fit = all(type(length) is int and 0 <= length < 1 << 40 for length in (*shape, begin, end))
        is_known = code in _DTYPES
    if not is_known:
        raise InvalidInputError(f"{where}: expected a dtype ({', '.join(_DTYPES)}), found {code!r:.40}")
    dtype = parse_dtype(_DTYPES[code])
    if not lengths_fit or dtype.itemsize * math.prod(shape) != end - begin or start + end > file_nbytes:
        raise CorruptionError(
            f"{where}: shape, offsets and file length do not agree; download the file again", where=where
        )
    if not shape or 0 in shape[1:]:
        raise InvalidInputError(f"{where}: expected samples along the first axis, found shape {shape}")
    return _FileTensor(dtype, shape, start + begin)
