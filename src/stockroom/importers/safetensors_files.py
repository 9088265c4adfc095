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
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.array_columns import FoundArray, keep_fit
from stockroom.importers.column_attrs import keep_attrs
from stockroom.importers.column_names import name_columns
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import Batch, Importer, ImportSpec, Source, count_batch_rows
from stockroom.importers.streams import read_exactly, translate_read_errors
from stockroom.interop.safetensors_library import DTYPES, TWO_IN_A_BYTE
from stockroom.store.dtypes import parse_dtype

_MAX_HEADER_NBYTES: Final = 100_000_000  # the library's own limit
_DTYPES: Final = {code: name for code, name in DTYPES.items() if name != TWO_IN_A_BYTE}
"""A dtype's name in a file -> its name in columns. No sample has half bytes."""


class SafetensorsImporter(Importer):
    """Reads safetensors files as tables, without the library."""

    name = "safetensors"

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return a column per tensor of the files `spec.paths`. Reads their headers."""
        found: dict[str, FoundArray] = {}
        left_out = LeftOut()
        for path in spec.list_paths(".safetensors"):
            for title, tensor in _read_tensors(path, left_out).items():
                if title in found:
                    raise InvalidInputError(f"{found[title].where} is also in {path}; import one at a time")
                found[title] = tensor
        kept = keep_fit(found, left_out)
        names = name_columns(kept, str(spec.paths[0]), spec.limits)
        columns = [kept[title].make_column(name) for title, name in names.items()]
        columns[0].left_out.merge(left_out)
        return columns


def _iter_batches(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], first: int) -> Iterator[Batch]:
    """Yield the samples of a tensor whose values begin at `first`, counted from the file's start."""
    count, *sample_shape = shape
    row_nbytes = dtype.itemsize * math.prod(sample_shape)
    rows = count_batch_rows(dtype, sample_shape)
    with translate_read_errors(path), path.open("rb") as stream:
        stream.seek(first)
        for start in range(0, count, rows):
            size = min(rows, count - start)
            data = read_exactly(stream, size * row_nbytes, where=str(path))
            yield np.frombuffer(data, dtype).reshape(size, *sample_shape)


def _read_tensors(path: Path, left_out: LeftOut) -> dict[str, FoundArray]:
    with translate_read_errors(path), path.open("rb") as stream:
        nbytes = path.stat().st_size
        length = int.from_bytes(read_exactly(stream, 8, where=str(path)), "little")
        if not 2 <= length <= min(nbytes - 8, _MAX_HEADER_NBYTES):
            raise InvalidInputError(f"{path}: not a safetensors file")
        header = _parse_header(read_exactly(stream, length, where=str(path)), path)
    metadata = header.pop("__metadata__", None)
    if not header:
        raise InvalidInputError(f"{path}: expected tensors, found none")
    attrs = keep_attrs({"metadata": metadata} if metadata else {}, str(path), left_out)
    found: dict[str, FoundArray] = {}
    unknown: dict[str, str] = {}
    spans = []
    for name, entry in header.items():
        where = f"{path}: {name!r:.80}"
        code, shape, span = _parse_entry(entry, where, nbytes - 8 - length)
        spans.append(span)
        if code not in _DTYPES:
            unknown[where] = code
            continue
        dtype = parse_dtype(_DTYPES[code])
        if dtype.itemsize * math.prod(shape) != span[1] - span[0]:
            raise _disagreeing(where)
        batches = partial(_iter_batches, path, dtype, shape, 8 + length + span[0])
        found[name] = FoundArray(where, dtype, shape, batches, attrs)
    _check_spans(sorted(spans), nbytes - 8 - length, str(path))
    if not found:
        where, code = next(iter(unknown.items()))
        raise InvalidInputError(f"{where}: expected a dtype ({', '.join(_DTYPES)}), found {code!r:.40}")
    for where, code in unknown.items():
        left_out.add(where, f"{code:.40} tensor", "array")
    return found


def _parse_header(data: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except Exception as error:
        raise InvalidInputError(f"{path}: not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise InvalidInputError(f"{path}: not a safetensors file")
    return header


def _parse_entry(entry: Any, where: str, nbytes: int) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Return the dtype, shape and place of a tensor in the `nbytes` bytes of values."""
    with translate_read_errors(where, "expected dtype, shape and data_offsets, found others"):
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        code.encode()  # or it is no text
        lengths_fit = all(type(length) is int and 0 <= length < 1 << 40 for length in (*shape, begin, end))
    if not lengths_fit or not begin <= end <= nbytes:
        raise _disagreeing(where)
    return code, shape, (begin, end)


def _check_spans(spans: Sequence[tuple[int, int]], nbytes: int, where: str) -> None:
    """Raise `CorruptionError` unless the values of the tensors follow each other and fill the file."""
    ends = [0, *(end for _, end in spans)]
    if [*(begin for begin, _ in spans), nbytes] != ends:
        raise _disagreeing(where)


def _disagreeing(where: str) -> CorruptionError:
    return CorruptionError(
        f"{where}: shape, offsets and file length do not agree; download the file again", where=where
    )
