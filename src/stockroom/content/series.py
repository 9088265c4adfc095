"""A series is a float64 column from int steps to values. A repeated step replaces its value, and steps are sorted."""

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
"""float64 holds every integer up to here."""

_MAX_STEP: Final = (1 << 63) - 1


def make_series_record() -> ColumnRecord:
    """Return the record of an empty series."""
    return ColumnRecord("float64", (), "int", AUTO, bytes(DIGEST_NBYTES), {})


def put_points(edit: ColumnEdit, steps: array[int], values: array[float]) -> None:
    """Set points of one series; the last one wins if a step repeats."""
    keys, entries = np.frombuffer(steps, np.int64), np.frombuffer(values, "<f8")
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        backwards, first = np.unique(keys[::-1], return_index=True)
        keys, entries = backwards, entries[::-1][first]
    edit.put_many(keys, np.ascontiguousarray(entries).view(np.uint8).reshape(-1, 8))


def as_number(name: str, value: Any) -> float:
    """Return the value of one point. Raises `SchemaError` for anything but a real number that float64 holds exactly."""
    if isinstance(value, bool | int):
        if abs(value) > MAX_EXACT:
            raise SchemaError(f"metric {name!r}: {value} is beyond 2**53, where float64 rounds; log a float")
        return float(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | bytes | complex) or value is None or getattr(value, "ndim", 0) != 0:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}; store it as a value instead")
    if getattr(value, "mask", False):
        raise SchemaError(f"metric {name!r}: expected a number, found a masked one")
    try:
        item = value.item()  # a numpy scalar, or an array or tensor of no axes
    except (AttributeError, ValueError, RuntimeError) as error:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}") from error
    if not isinstance(item, bool | int | float):
        raise SchemaError(f"metric {name!r}: expected a real number, found {_describe(value)}")
    return as_number(name, item)


def as_step(step: object) -> int:
    """Return a step as an int. Raises `InvalidInputError` unless it is an integer that fits 64 bits."""
    if type(step) is not int:
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise InvalidInputError(f"expected an integer step or None, found {step!r}")
        step = int(step.__index__())
    if not -_MAX_STEP - 1 <= step <= _MAX_STEP:
        raise InvalidInputError(f"step {step} does not fit 64 bits")
    return step


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
