"""Reads back the Parquet files that `stock export` wrote: one column, with its keys, attrs and exact schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError
from stockroom.importers.exported.sources import Keyed
from stockroom.importers.source import KeyedSource
from stockroom.shelves.data.table import Values
from stockroom.shelves.data.values import Schema
from stockroom.store.dtypes import parse_dtype
from stockroom.store.wide_floats import is_extension, narrow

KEY_TYPE: Final = b"stockroom.key_type"
_MAX_AXES: Final = 64


@dataclass(frozen=True, slots=True)
class Exported:
    """The two fields of such a file."""

    keys: Any
    samples: Any

    def open(
        self, paths: Sequence[Path], count: int, iter_record_batches: Callable[[Sequence[Path]], Iterator[Any]]
    ) -> KeyedSource:
        """Return the source of the column; raises `InvalidInputError` if its metadata is not as exports write it."""
        schema, decoder = self._read_schema(), self._get_text("decoder")
        batches = partial(self._iter_batches, paths, iter_record_batches, schema)
        key_type = self.keys.metadata[KEY_TYPE].decode("ascii", "replace")
        attrs = self._read_json("attrs", {})
        return KeyedSource(self.samples.name, schema, key_type, count, batches, attrs, decoder)

    def _read_schema(self) -> Schema:
        kind, dtype = str(self.samples.type), self._get_text("dtype")
        if dtype is None:
            return Schema("str" if kind == "string" else "bytes", (None,))
        shape = self._read_json("shape", [])
        if len(shape) > _MAX_AXES or not all(length is None or type(length) is int for length in shape):
            raise self._refuse(f"a shape such as [2, null], found {shape!s:.80}")
        return Schema(parse_dtype(dtype).name, tuple(shape))

    def _get_text(self, name: str) -> str | None:
        found = (self.samples.metadata or {}).get(b"stockroom." + name.encode())
        return None if found is None else found.decode("utf-8", "replace")

    def _read_json(self, name: str, default: Any) -> Any:
        """Return a part of the metadata, of the type of `default`."""
        text = self._get_text(name)
        try:
            found = default if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._refuse(f"{name} in JSON ({error})") from error
        if not isinstance(found, type(default)):
            raise self._refuse(f"{name} as a {type(default).__name__}, found {type(found).__name__}")
        return found

    def _iter_batches(
        self, paths: Sequence[Path], iter_record_batches: Callable[[Sequence[Path]], Iterator[Any]], schema: Schema
    ) -> Iterator[Keyed]:
        for batch in iter_record_batches(paths):
            keys, array = batch.column(self.keys.name), batch.column(self.samples.name)
            if keys.null_count or (array.null_count and not schema.dtype.startswith(("datetime", "timedelta"))):
                raise self._refuse("a key and a sample in every row, found null")
            yield keys.to_pylist(), self._read_samples(array, schema)

    def _read_samples(self, array: Any, schema: Schema) -> Values:
        if schema.dtype in ("str", "bytes"):
            if str(array.type).startswith("struct"):
                array = array.field("bytes")
            values: list[Any] = array.to_pylist()
            return values
        levels = []
        for _ in schema.shape:
            if "list" not in str(array.type):
                raise self._refuse(f"lists for shape {schema.shape}, found {array.type}")
            if array.null_count:
                raise self._refuse("lists without nulls, found null")
            levels.append(_measure_lists(array))
            array = array.flatten()
        numbers = self._restore(array, parse_dtype(schema.dtype))
        if None in schema.shape or 0 in schema.shape:
            return list(self._cut(levels, numbers, schema.shape))
        rows = len(levels[0]) if levels else len(numbers)
        if len(numbers) != rows * math.prod(length or 0 for length in schema.shape):
            raise self._refuse(f"samples of shape {schema.shape}, found others")
        return numbers.reshape(rows, *(length or 0 for length in schema.shape))

    def _restore(self, array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return numbers in the column's dtype, for which the file may hold another. A date that is null is NaT."""
        if array.null_count and dtype.kind not in "mM":
            raise self._refuse("numbers without nulls, found null")
        values = np.asarray(array.to_numpy(zero_copy_only=False))
        if values.dtype == dtype:
            return values
        if is_extension(dtype) and values.dtype == np.float32:
            return narrow(values, dtype)
        if (values.dtype.kind in "iu" and dtype.kind in "iu") or values.dtype.kind == dtype.kind in ("m", "M"):
            found = values.astype(dtype)
            if np.array_equal(found.astype(values.dtype), values, equal_nan=dtype.kind in "mM"):
                return found
        raise self._refuse(f"values of {dtype}, found {values.dtype}")

    def _cut(
        self, levels: Sequence[NDArray[np.int64]], numbers: NDArray[Any], shape: tuple[int | None, ...]
    ) -> Iterator[NDArray[Any]]:
        """Yield the sample of each row. Inside an empty axis, the column's shape gives the lengths."""
        offsets = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in levels]
        for row in range(len(levels[0])):
            start, stop = row, row + 1
            found: list[int] = []
            for lengths, offset, known in zip(levels, offsets, shape, strict=True):
                here = lengths[start:stop]
                if len(here) and (here != here[0]).any():
                    raise self._refuse("nested lists of equal length in each row, found others")
                found.append(int(here[0]) if len(here) else known or 0)
                start, stop = int(offset[start]), int(offset[stop])
            yield numbers[start:stop].reshape(found)

    def _refuse(self, expected: str) -> InvalidInputError:
        return InvalidInputError(f"column {self.samples.name!r}: expected {expected}")


def find_exported(schema: Any) -> Exported | None:
    """Return the fields of an Arrow schema that `stock export` made, or None for any other."""
    keys = [field for field in schema if KEY_TYPE in (field.metadata or {})]
    samples = [field for field in schema if KEY_TYPE not in (field.metadata or {})]
    return Exported(keys[0], samples[0]) if len(keys) == len(samples) == 1 else None


def _measure_lists(array: Any) -> NDArray[np.int64]:
    """Return the length of each list."""
    from pyarrow import compute  # needs the extra

    lengths = compute.list_value_length(array).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)
