"""Converts the samples of other libraries' data sets, map-style or iterable, to rows of columns.

Knows no library by name: a torch data set is an object with `__getitem__` and `__len__`, or `__iter__`.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np

from stockroom.content.column import STR
from stockroom.content.series import MAX_EXACT
from stockroom.errors import SchemaError
from stockroom.shelves.data.column import Column
from stockroom.shelves.data.table import (
    MAX_NAMES_NBYTES,
    ColumnPlan,
    GrowingColumns,
    Values,
    check_arrow,
    measure_value,
)
from stockroom.shelves.data.values import Array, Schema, as_array_like, check_unmasked, is_data_frame, to_array
from stockroom.shelves.model.tensor_library import is_tensor
from stockroom.store.dtypes import parse_dtype

BATCH_NBYTES: Final = 8 << 20
BATCH_ROWS: Final = 1024
_MAX_DEPTH: Final = 8


def read_dataset(
    dataset: Any, names: Sequence[str] | None = None, *, prefix: str = ""
) -> tuple[list[ColumnPlan], Iterator[Mapping[str, Values]]]:
    """Return the columns that are known in advance, and batches of rows, by column."""
    if is_data_frame(dataset):
        check_arrow("a data frame")
        from stockroom.shelves.data.arrow_table import read_frame  # needs the extra

        return read_frame(dataset, names, prefix=prefix)
    return list(_plan_labels(dataset, prefix)), iter_batches(dataset, names, prefix=prefix)


def _plan_labels(dataset: Any, prefix: str) -> Iterator[ColumnPlan]:
    """Yield plans with the class names that a data set of Hugging Face's has for its labels."""
    features = getattr(dataset, "features", None)
    for name, feature in features.items() if isinstance(features, Mapping) else ():
        while hasattr(feature, "feature"):  # a list of them
            feature = feature.feature
        classes = getattr(feature, "names", None)
        if isinstance(classes, list) and len(json.dumps(classes)) <= MAX_NAMES_NBYTES:
            yield ColumnPlan(f"{prefix}{name}", attrs={"classes": classes})


def import_samples(
    columns: GrowingColumns,
    batches: Iterator[Mapping[str, Values]],
    *,
    on_progress: Callable[[int], object] | None = None,
) -> tuple[str, ...]:
    """Put batches of rows into columns, as `DataShelf.import_from` describes; return the columns' names."""
    empties: dict[str, dict[int, tuple[int, ...]]] = {}
    try:
        for batch in batches:
            columns.add({name: _set_aside(values, empties, name, columns.rows) for name, values in batch.items()})
            if on_progress is not None:
                on_progress(columns.rows)
        for name, shapes in empties.items():
            make = partial(_make_empty, columns.find_schema(name))
            columns.put(name, {row: make(shape) for row, shape in shapes.items()})
        columns.finish()
    except BaseException:
        columns.undo()
        raise
    for name, count in columns.replaced.items():
        text = f"column {name!r}: {count} other samples were replaced; commits that have them keep them"
        warnings.warn(text, stacklevel=3)
    for name in columns.absent:
        warnings.warn(f"column {name!r}: left out, as it has no values", stacklevel=3)
    return columns.names


def iter_batches(dataset: Any, names: Sequence[str] | None = None, *, prefix: str = "") -> Iterator[dict[str, Values]]:
    """Yield batches of rows, by column, of about 8 MiB each; None if a row has no value in a column."""
    rows: list[dict[str, Any]] = []
    nbytes = 0
    for number, sample in enumerate(_iter_samples(dataset)):
        row: dict[str, Any] = {}
        for name, value in _iter_fields(sample, names, number):
            if prefix + name in row:
                raise SchemaError(f"sample {number}: expected one value for column {prefix + name!r}, found two")
            row[prefix + name] = value
        rows.append(row)
        nbytes += sum(map(measure_value, row.values()))
        if nbytes >= BATCH_NBYTES or len(rows) >= BATCH_ROWS:
            yield _transpose(rows)
            rows, nbytes = [], 0
    if rows:
        yield _transpose(rows)


def _set_aside(values: Values, empties: dict[str, dict[int, tuple[int, ...]]], name: str, first_row: int) -> Values:
    """Return the values with None for lists without values, whose shapes go into `empties`: others give the dtype."""
    if not isinstance(values, list):
        return values
    for index, value in enumerate(values):
        if isinstance(value, np.ndarray) and value.dtype == object:
            empties.setdefault(name, {})[first_row + index] = value.shape
            values[index] = None
    return values


def _make_empty(schema: Schema | None, shape: tuple[int, ...]) -> Array | str:
    """Return a list without values as a sample of a column: text in one of text, or else an array."""
    if schema is not None and schema.dtype == STR:
        return json.dumps(np.empty(shape).tolist())
    known = Schema("float64", (None,)) if schema is None else schema
    return np.empty((*shape, *(length or 0 for length in known.shape[len(shape) :])), parse_dtype(known.dtype))


def _iter_samples(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, Mapping) and not isinstance(dataset, Column):
        yield from _iter_table(dataset)
        return
    if isinstance(dataset, str | bytes | Column):
        raise SchemaError(
            f"expected a data set, found one {type(dataset).__name__}; give its rows, as dicts, or a dict of its "
            "columns, as lists or arrays"
        )
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


def _iter_table(columns: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a mapping from names to columns, lists or arrays of one length; raises `SchemaError`."""
    plain: dict[Any, Any] = {name: as_array_like(values, f"column {name!r}") for name, values in columns.items()}
    for name, values in plain.items():
        is_column = isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)
        if not isinstance(name, str) or not is_column:
            raise SchemaError(
                f"expected rows, or a dict of columns that are lists or arrays, found {type(values).__name__} under "
                f"{name!r}; to set samples by key use stock.data[name] = {{key: sample}}"
            )
    lengths = {name: len(values) for name, values in plain.items()}
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"expected columns of one length, found {lengths}")
    for row in zip(*plain.values(), strict=True):
        yield dict(zip(plain, row, strict=True))


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
            text = str.__str__(key) if isinstance(key, str) else str(key)  # an enum member by its value
            yield from _iter_nested(f"{name}.{text}" if name else text, part, number, depth + 1)
    else:
        yield name, _make_sample(value, f"sample {number}, {name!r}")


def _make_sample(value: Any, where: str) -> Any:
    """Convert a value to a sample: images and lists of numbers become arrays, other lists JSON text."""
    if value is None or isinstance(value, np.ndarray | str | bytes | bool | int | float | complex) or is_tensor(value):
        return str(value) if isinstance(value, np.str_) else check_unmasked(value, where)
    if isinstance(value, np.generic):
        return value
    if hasattr(value, "getbands"):  # an image of Pillow
        return np.array(value)  # palette indices stay: they are the classes of a segmentation
    if isinstance(value, list | tuple | Mapping):
        return _make_array_or_text(value, where)
    if isinstance(value, date | timedelta):
        return _make_time(value, where)
    raise SchemaError(f"{where}: expected numbers, arrays, tensors, images or text, found {type(value).__name__}")


def _make_time(value: date | timedelta, where: str) -> np.datetime64 | np.timedelta64:
    """Convert a date, or a time without zone, or a duration."""
    if isinstance(value, timedelta):
        count = value // timedelta(microseconds=1)
        if abs(count) < 1 << 63:
            return np.timedelta64(count, "us")
    elif not isinstance(value, datetime):
        return np.datetime64(value, "D")
    elif value.tzinfo is None:
        return np.datetime64(value, "us")
    raise SchemaError(f"{where}: {value} does not fit; give a time in UTC without its zone, or text")


def _make_array_or_text(value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        items = [to_array(item, where) if is_tensor(item) else check_unmasked(item, where) for item in value]
        try:
            array = np.asarray(items)
        except (ValueError, TypeError):  # lengths differ, or items are not numbers
            array = np.array(None)
        if array.dtype.kind in "biufc":
            _check_exact(items, array, where)
            return array if array.size else np.empty(array.shape, object)  # to be set aside
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: expected JSON values ({error})") from error


def _check_exact(items: Any, array: Array, where: str) -> None:
    """Raise `SchemaError` if numpy rounded an integer, as it does with large ones beside others or beside floats."""
    if array.dtype.kind in "fc" and (np.abs(array) >= MAX_EXACT).any():
        for item, found in zip(items, array, strict=True):
            plain = item.tolist() if isinstance(item, np.ndarray | np.generic) else item
            if isinstance(plain, list | tuple):
                _check_exact(plain, found, where)
            elif isinstance(plain, int) and plain != found.item():
                raise SchemaError(
                    f"{where}: {plain} does not fit {array.dtype}, which makes it {found}; convert it first"
                )


def _transpose(rows: list[dict[str, Any]]) -> dict[str, Values]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
