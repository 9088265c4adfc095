"""Exports to Parquet: a column `key` and a column of samples. Needs pyarrow, from the optional extra `tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.shelves.export.samples import Array, Samples, as_plain, is_extension, plain_dtype
from stockroom.store.dtypes import format_dtype

_DTYPE_KEY: Final = "stockroom.dtype"
_DECODER_KEY: Final = "stockroom.decoder"
_DATE_UNITS: Final = ("s", "ms", "us", "ns")


def write_parquet(samples: Samples, path: Path) -> None:
    """Write one row per sample. Arrays of one shape become Arrow's fixed-shape tensors, others nested lists."""
    arrow = _load_arrow()
    from pyarrow import parquet

    field = _make_field(arrow, samples)
    key_type = arrow.int64() if samples.column.key_type == "int" else arrow.string()
    schema = arrow.schema([arrow.field("key", key_type), field])
    with parquet.ParquetWriter(path, schema) as writer:
        for keys, batch in samples.iter_batches():
            try:
                columns = [arrow.array(keys, key_type), _make_array(arrow, field.type, batch)]
            except (UnicodeEncodeError, arrow.ArrowException) as error:
                raise samples.refuse("Parquet", f"{error}; use a folder") from error
            writer.write_batch(arrow.record_batch(columns, schema=schema))


def _load_arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise InvalidInputError(
            "Parquet needs pyarrow: install it with `pip install 'stockroom-vcs[tables]'`"
        ) from error
    return pyarrow


def _make_field(arrow: Any, samples: Samples) -> Any:
    """Return the field of the samples; its metadata records dtypes and decoders that Arrow does not have."""
    column = samples.stored
    if isinstance(column.dtype, str):
        kind = arrow.string() if column.dtype == "str" else arrow.binary()
        decoder = samples.column.decoder
        return arrow.field(samples.name, kind, metadata={} if decoder is None else {_DECODER_KEY: decoder})
    dtype = column.dtype
    is_date = dtype.kind in "mM" and np.datetime_data(dtype) not in [(unit, 1) for unit in (*_DATE_UNITS, "D")]
    if dtype.kind == "c" or is_date or (dtype.kind == "m" and np.datetime_data(dtype)[0] == "D"):
        raise samples.refuse("Parquet", "use .npz, .npy or .zarr")
    kind = arrow.from_numpy_dtype(plain_dtype(dtype))
    if column.shape and None not in column.shape and 0 not in column.shape:
        kind = arrow.fixed_shape_tensor(kind, column.shape)
    else:
        for _ in column.shape:
            kind = arrow.list_(kind)
    metadata = {_DTYPE_KEY: format_dtype(dtype)} if is_extension(dtype) else {}
    return arrow.field(samples.name, kind, metadata=metadata)


def _make_array(arrow: Any, kind: Any, batch: Any) -> Any:
    if isinstance(batch, list) and (not batch or isinstance(batch[0], str | bytes)):
        return arrow.array(batch, kind)
    if isinstance(kind, arrow.FixedShapeTensorType):
        flat = arrow.array(as_plain(np.ascontiguousarray(batch)).reshape(-1), kind.value_type)
        storage = arrow.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size)
        return arrow.ExtensionArray.from_storage(kind, storage)
    if isinstance(batch, np.ndarray) and batch.ndim == 1:
        return arrow.array(as_plain(batch), kind)
    return _nest(arrow, kind, [as_plain(np.ascontiguousarray(sample)) for sample in batch])


def _nest(arrow: Any, kind: Any, samples: list[Array]) -> Any:
    """Return arrays with equal numbers of axes as nested lists: all numbers, and the offsets of each list."""
    lengths = []
    for axis in range(samples[0].ndim):
        own = np.array([sample.shape[axis] for sample in samples], np.int64)
        times = np.array([int(np.prod(sample.shape[:axis])) for sample in samples], np.int64)
        lengths.append(np.repeat(own, times))
    values = np.concatenate([sample.reshape(-1) for sample in samples])
    while arrow.types.is_list(kind):
        kind = kind.value_type
    array = arrow.array(values, kind)
    for each in reversed(lengths):
        offsets = np.concatenate([[0], np.cumsum(each)]).astype(np.int32)
        array = arrow.ListArray.from_arrays(arrow.array(offsets), array)
    return array
