"""What a series is: a column of float64 under int keys, the value at each step.

A step that comes again replaces the value before, and steps come back in order, however they were put.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import InvalidInputError, SchemaError
from stockroom.store.codecs import AUTO

MAX_EXACT: Final = 1 << 53
"""Up to here float64 holds every integer."""

_MAX_STEP: Final = (1 << 63) - 1


def make_series_record() -> ColumnRecord:
    """The schema of every series, without points."""
    return ColumnRecord("float64", (), "int", AUTO, bytes(DIGEST_NBYTES), {})


def put_points(edit: ColumnEdit, steps: array[int], values: array[float]) -> None:
    """Set the points of one series; of several at one step the last."""
    keys, entries = np.frombuffer(steps, np.int64), np.frombuffer(values, "<f8")
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        backwards, first = np.unique(keys[::-1], return_index=True)
        keys, entries = backwards, entries[::-1][first]
    edit.put_many(keys, np.ascontiguousarray(entries).view(np.uint8).reshape(-1, 8))


def as_number(name: str, value: Any) -> float:
    """The value of one point; `SchemaError` for what is no real number, or an integer float64 does not hold."""
    if isinstance(value, bool | int):
        if abs(value) > MAX_EXACT:
            raise SchemaError(f"metric {name!r}: {value} is beyond 2**53, where float64 rounds; log a float")
        return float(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | bytes | complex) or value is None or getattr(value, "ndim", 0) != 0:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}; keep it as a value instead")
    try:
        item = value.item()  # a numpy scalar, or an array or tensor of no axes
    except (AttributeError, ValueError, RuntimeError) as error:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}") from error
    if not isinstance(item, bool | int | float):
        raise SchemaError(f"metric {name!r}: expected a real number, found {_describe(value)}")
    return as_number(name, item)


def as_step(step: object) -> int:
    """A step; `InvalidInputError` for what is no integer, or does not fit 64 bits."""
    if isinstance(step, bool) or not hasattr(step, "__index__"):
        raise InvalidInputError(f"expected an integer step, or None, found {step!r}")
    number = int(step.__index__())
    if not -_MAX_STEP - 1 <= number <= _MAX_STEP:
        raise InvalidInputError(f"step {number} does not fit 64 bits")
    return number


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
