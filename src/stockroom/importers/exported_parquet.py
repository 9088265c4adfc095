"""Reads back the Parquet files that `stock export` wrote: one column, with its keys, attrs and exact schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.importers.arrow_values import DTYPE_KEY, plan_column, read_values
from stockroom.importers.source import KeyedSource
from stockroom.shelves.data.table import Values
from stockroom.shelves.data.values import Schema

KEY_TYPE: Final = b"stockroom.key_type"
_SHAPE: Final = b"stockroom.shape"


@dataclass(frozen=True, slots=True)
class Exported:
    """The two fields of such a file."""

    keys: Any
    samples: Any

    def open(
        self, paths: Sequence[Path], count: int, iter_record_batches: Callable[[Sequence[Path]], Iterator[Any]]
    ) -> KeyedSource:
        """Return the source of the column; raises `InvalidInputError` if its metadata is not as exports write it."""
        name = self.samples.name
        plan = plan_column(self.samples, name, {})
        shape = _parse_shape(self.samples)
        dtype = (
            plan.schema.dtype
            if plan.schema is not None
            else (self.samples.metadata or {}).get(DTYPE_KEY, b"").decode("ascii", "replace")
        )
        schema = Schema(dtype, (None,) if dtype in ("str", "bytes") else shape)
        key_type = self.keys.metadata[KEY_TYPE].decode("ascii", "replace")
        batches = partial(self._iter_batches, paths, iter_record_batches, schema)
        return KeyedSource(name, schema, key_type, count, batches, plan.attrs, plan.decoder)

    def _iter_batches(
        self, paths: Sequence[Path], iter_record_batches: Callable[[Sequence[Path]], Iterator[Any]], schema: Schema
    ) -> Iterator[tuple[Sequence[Any], Values]]:
        for batch in iter_record_batches(paths):
            keys = batch.column(self.keys.name).to_pylist()
            samples = read_values(batch.column(self.samples.name), self.samples)
            yield keys, _shape_samples(samples, keys, schema, self.samples.name)


def find_exported(schema: Any) -> Exported | None:
    """Return the fields of an Arrow schema that `stock export` made, or None for any other."""
    keys = [field for field in schema if KEY_TYPE in (field.metadata or {})]
    samples = [field for field in schema if KEY_TYPE not in (field.metadata or {})]
    return Exported(keys[0], samples[0]) if len(keys) == len(samples) == 1 else None


def _parse_shape(field: Any) -> tuple[int | None, ...]:
    text = (field.metadata or {}).get(_SHAPE, b"[]")
    try:
        shape = json.loads(text)
    except (ValueError, RecursionError):
        shape = None
    if not isinstance(shape, list) or not all(length is None or type(length) is int for length in shape):
        raise InvalidInputError(f"column {field.name!r}: expected a shape such as [2, null], found {text!r:.80}")
    return tuple(shape)


def _shape_samples(samples: Values, keys: Sequence[Any], schema: Schema, name: str) -> Values:
    """Return samples in the column's shape, which lists do not say inside an empty axis; null is NaT among dates."""
    if isinstance(samples, np.ndarray):
        return samples
    if schema.dtype in ("str", "bytes"):
        shaped = samples
    else:
        is_date = schema.dtype.startswith(("datetime64", "timedelta64"))
        shaped = [_shape_sample(sample, schema, is_date=is_date) for sample in samples]
    if any(sample is None for sample in shaped):
        key = keys[next(row for row, sample in enumerate(shaped) if sample is None)]
        raise InvalidInputError(f"column {name!r}: expected a sample for every key, found null under {key!r:.80}")
    return shaped


def _shape_sample(sample: Any, schema: Schema, *, is_date: bool) -> Any:
    if sample is None:
        return np.array("NaT", schema.dtype) if is_date and not schema.shape else None
    if not isinstance(sample, np.ndarray) or sample.size:
        return sample
    known = zip(schema.shape, (*sample.shape, *[0] * len(schema.shape)), strict=False)
    return sample.reshape([found if length is None else length for length, found in known])
