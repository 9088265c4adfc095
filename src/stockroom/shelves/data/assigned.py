"""The samples that a caller assigns to a column: their keys, if they have any, and the schema that admits them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stockroom.errors import SchemaError
from stockroom.shelves.data.column import Column
from stockroom.shelves.data.keys import check_key
from stockroom.shelves.data.values import (
    Schema,
    as_array_like,
    check_unmasked,
    infer_schema,
    is_data_frame,
    widen_schema,
)
from stockroom.trees import Key, KeyType


def split_keys(name: str, values: object) -> tuple[list[Key] | None, object]:
    """Return the keys, if `values` has any, and the samples."""
    if isinstance(values, Mapping) and not isinstance(values, Column):
        keys: list[Any] = [_plain_key(name, key) for key in values]
        if len(set(keys)) < len(keys):  # such as a tuple and its text
            raise SchemaError(f"column {name!r}: expected each key once, found two that are stored as one")
        if len({type(key) for key in keys}) > 1:
            raise SchemaError(f"column {name!r}: expected keys all int or all str, found both")
        return keys, list(values.values())
    if isinstance(values, Column):
        frozen = values.encoded.freeze()
        return [_plain_key(name, key) for key in frozen], frozen.values()
    plain = as_array_like(values, f"column {name!r}")
    if isinstance(plain, str | bytes | np.generic) or is_data_frame(plain) or not isinstance(plain, Iterable):
        raise SchemaError(
            f"column {name!r}: expected an array (N, ...), a list of samples or a mapping, found "
            f"{type(values).__name__}; for a single sample use stock.data[{name!r}, key] = value"
        )
    return None, plain


def _plain_key(name: str, key: object) -> Key:
    if isinstance(key, bool) or not isinstance(key, int | str | np.integer | tuple):
        raise SchemaError(f"column {name!r}: expected int or str keys, found {key!r} ({type(key).__name__})")
    return check_key(key, KeyType.STR if isinstance(key, str | tuple) else KeyType.INT, column=name)


def infer_bulk_schema(name: str, samples: Any, keys: Sequence[Key] | None) -> Schema:
    """Return the schema that admits all samples of an array, a list or a tuple."""
    if isinstance(samples, np.ndarray):
        if samples.ndim == 0:
            raise SchemaError(f"column {name!r}: expected an array of samples (N, ...), found a 0-d array")
        if samples.dtype.kind in "US":
            raise SchemaError(f"column {name!r}: pass text as a list: array.tolist()")
        samples = check_unmasked(samples, f"column {name!r}", first_key=0)
        return Schema(infer_schema(samples, f"column {name!r}").dtype, samples.shape[1:])
    if not samples:
        raise no_samples(name)
    schema: Schema | None = None
    for key, sample in zip(range(len(samples)) if keys is None else keys, samples, strict=True):
        schema = widen_to_admit(schema, name, key, sample)
    assert schema is not None
    return schema


def widen_to_admit(schema: Schema | None, name: str, key: Key, sample: object) -> Schema:
    """Return `schema` (None: there is none yet) widened so that it admits a sample."""
    found = infer_schema(sample, f"column {name!r}, key {key!r}")
    return found if schema is None else widen_schema(schema, found)


def no_samples(name: str) -> SchemaError:
    """Return the error for a new column without samples."""
    return SchemaError(f"column {name!r}: cannot infer a dtype without samples; use stock.data.create(...)")
