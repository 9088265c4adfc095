"""Makes sources from the records that `stock export` leaves in files whose format lacks keys, dtypes or shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec
import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.source import BATCH_NBYTES, Batch, KeyedSource, Source
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import Values, measure_value
from stockroom.shelves.data.values import Schema
from stockroom.shelves.export.export_record import RECORD_NAME, ExportRecord
from stockroom.shelves.export.samples import restore_dtype

Keyed = tuple[Sequence[Any] | None, Values]
"""A batch of keys, or None for 0, 1, 2 and so on, and as many samples."""

_MAX_ROWS_AT_ONCE: Final = 4096


def parse_record(document: bytes | str) -> ExportRecord | None:
    """Return the record in a JSON object, or None if there is none of this version."""
    try:
        return msgspec.json.decode(document, type=dict[str, ExportRecord]).get(RECORD_NAME)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def convert_record(value: object) -> ExportRecord | None:
    """Return the record that a JSON value is, or None if it is none of this version."""
    try:
        return msgspec.convert(value, ExportRecord)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def make_source(
    record: ExportRecord,
    count: int | None,
    batches: Callable[[], Iterator[Keyed]],
    attrs: Mapping[str, object] | None = None,
) -> KeyedSource:
    """Return the source of the column that a record describes."""
    schema = Schema(record.dtype, tuple(record.shape))
    return KeyedSource(record.column, schema, record.key_type, count, batches, attrs or {}, record.decoder)


def iter_stacked(batches: Iterable[Batch], keys: Sequence[Any] | None) -> Iterator[Keyed]:
    """Yield batches of samples, each with its part of all keys."""
    start = 0
    for batch in batches:
        stop = start + len(batch)
        yield None if keys is None else keys[start:stop], batch
        start = stop


def iter_grouped(samples: Iterable[tuple[Any, Any]]) -> Iterator[Keyed]:
    """Yield keys and samples in batches of some 8 MiB."""
    group: list[tuple[Any, Any]] = []
    nbytes = 0
    for pair in samples:
        group.append(pair)
        nbytes += measure_value(pair[1])
        if nbytes >= BATCH_NBYTES or len(group) >= _MAX_ROWS_AT_ONCE:
            yield [key for key, _ in group], [sample for _, sample in group]
            group, nbytes = [], 0
    if group:
        yield [key for key, _ in group], [sample for _, sample in group]


def parse_npy(data: bytes, where: str) -> NDArray[Any]:
    """Return the array in the bytes of an `.npy` that an export wrote. Raises `CorruptionError` naming `where`."""
    stream = BytesIO(data)
    with translate_read_errors(where, "not an .npy array"):
        dtype, shape = read_npy_head(stream, where)
        values = np.frombuffer(data, np.uint8, offset=stream.tell())
        return values.view(dtype).reshape(shape).copy()


def read_npy_head(stream: Any, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype and shape at the start of an `.npy` that an export wrote."""
    version = npy_format.read_magic(stream)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject or fortran_order:
        raise CorruptionError(f"{where}: expected an array as exports write it, found {dtype}", where=where)
    return restore_dtype(dtype), shape


def join_sources(exported: Sequence[Source], others: Sequence[Source]) -> list[Source]:
    """Return the sources of both. Raises `InvalidInputError` if two are of one name."""
    names: set[str] = set()
    for source in (*exported, *others):
        if source.name in names:
            raise InvalidInputError(f"two of the files become column {source.name!r}; import them one at a time")
        names.add(source.name)
    return [*exported, *others]


def make_empty(record: ExportRecord, count: int) -> Batch:
    """Return `count` samples of a column that has an axis of length 0."""
    from stockroom.store.dtypes import parse_dtype

    return np.empty((count, *(length or 0 for length in record.shape)), parse_dtype(record.dtype))
