"""Converts the samples of other libraries' data sets, map-style or iterable, to rows of columns.

Knows no library by name: a torch data set is an object with `__getitem__` and `__len__`, or `__iter__`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from stockroom.errors import SchemaError
from stockroom.shelves.data.table import GrowingColumns, measure_value
from stockroom.shelves.model.tensor_library import is_tensor

BATCH_NBYTES: Final = 8 << 20
BATCH_ROWS: Final = 1024
_MAX_DEPTH: Final = 8


def import_samples(
    columns: GrowingColumns,
    dataset: Any,
    names: Sequence[str] | None = None,
    *,
    prefix: str = "",
    on_progress: Callable[[int], object] | None = None,
) -> tuple[str, ...]:
    """Put the samples of `dataset` into columns, as `DataShelf.import_from` describes; return the columns' names."""
    try:
        for batch in iter_batches(dataset, names, prefix=prefix):
            columns.add(batch)
            if on_progress is not None:
                on_progress(columns.rows)
    except BaseException:
        columns.undo()
        raise
    return columns.names


def iter_batches(
    dataset: Any, names: Sequence[str] | None = None, *, prefix: str = ""
) -> Iterator[dict[str, list[Any]]]:
    """Yield batches of rows, by column, of about 8 MiB each; None if a row has no value in a column."""
    rows: list[dict[str, Any]] = []
    nbytes = 0
    for number, sample in enumerate(_iter_samples(dataset)):
        row = {prefix + name: value for name, value in _iter_fields(sample, names, number)}
        rows.append(row)
        nbytes += sum(map(measure_value, row.values()))
        if nbytes >= BATCH_NBYTES or len(rows) >= BATCH_ROWS:
            yield _transpose(rows)
            rows, nbytes = [], 0
    if rows:
        yield _transpose(rows)


def _iter_samples(dataset: Any) -> Iterator[Any]:
    if hasattr(type(dataset), "__iter__"):
        yield from dataset
        return
    if not hasattr(type(dataset), "__getitem__"):
        raise SchemaError(f"expected a data set with __getitem__ or __iter__, found {type(dataset).__name__}")
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        count = sys.maxsize
    for index in range(count):
        try:
            sample = dataset[index]
        except IndexError:
            return
        yield sample


def _iter_fields(sample: Any, names: Sequence[str] | None, number: int) -> Iterator[tuple[str, Any]]:
    """Yield the values of a sample with the names of their columns."""
    if isinstance(sample, Mapping):
        yield from _iter_nested("", sample, number, 0)
        return
    values = sample if isinstance(sample, tuple | list) else (sample,)
    given = names or (["item"] if len(values) == 1 else [f"item{index}" for index in range(len(values))])
    if len(given) != len(values):
        raise SchemaError(f"sample {number}: expected {len(given)} values ({', '.join(given)}), found {len(values)}")
    for name, value in zip(given, values, strict=True):
        yield from _iter_nested(name, value, number, 0)


def _iter_nested(name: str, value: Any, number: int, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        for key, part in value.items():
            yield from _iter_nested(f"{name}.{key}" if name else str(key), part, number, depth + 1)
    else:
        yield name, _make_sample(value, f"sample {number}, {name!r}")


def _make_sample(value: Any, where: str) -> Any:
    """Convert a value to a sample: images and lists of numbers become arrays, other lists JSON text."""
    if value is None or isinstance(value, np.ndarray | str | bytes | bool | int | float | complex) or is_tensor(value):
        return str(value) if isinstance(value, np.str_) else value
    if isinstance(value, np.generic):
        return value
    if hasattr(value, "getbands"):  # an image of Pillow
        return np.array(value)  # palette indices stay: they are the classes of a segmentation
    if isinstance(value, list | tuple | Mapping):
        return _make_array_or_text(value, where)
    raise SchemaError(f"{where}: expected numbers, arrays, tensors, images or text, found {type(value).__name__}")


def _make_array_or_text(value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        try:
            array = np.asarray([item.numpy() if is_tensor(item) else item for item in value])
        except (ValueError, TypeError):  # lengths differ, or items are not numbers
            array = np.empty(0, object)
        if array.dtype.kind in "biufc" and array.size:
            return array
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: expected JSON values ({error})") from error


def _transpose(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
