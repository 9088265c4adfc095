"""Checks the keys, positions and masks with which callers select samples. Errors name the column.

A tuple such as `("patient", 3)` is a key of a str column too. It is stored as a JSON list without spaces,
`["patient",3]`: this tells `3` from `"3"`, and can be typed on a command line. The tuple and its text are one key. Keys
are in the order of their texts.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.values import describe_value
from stockroom.shelves.model.tensor_library import is_tensor
from stockroom.trees import Key, KeyType

SampleKey: TypeAlias = Key | tuple[int | str, ...]
"""A key as users give it and get it."""

KeyChoice: TypeAlias = Iterable[SampleKey] | slice | None
"""The samples under these keys, or at a slice of positions in key order; None is all samples."""


def check_key(key: Any, key_type: str, *, column: str) -> Key:
    """Return `key` as the column's tree stores it, a tuple as its text; raises `SchemaError` if invalid, as True is."""
    if key_type == KeyType.STR:
        if isinstance(key, str):
            return key if type(key) is str else str.__str__(key)  # an enum member by its value
        if isinstance(key, tuple):
            return format_nested(key, f"column {column!r}")
        if isinstance(key, np.ndarray) and key.ndim == 0 and key.dtype.kind == "U":
            return str(key)
    elif type(key) is int:
        return key
    elif is_integer(key):
        return operator.index(key)
    hint = "; to set many samples use update({key: sample})" if isinstance(key, slice | list | np.ndarray) else ""
    raise SchemaError(f"column {column!r}: expected {key_type} keys, found {key!r:.80} ({type(key).__name__}){hint}")


def is_integer(value: Any) -> bool:
    """Return whether `value` is one whole number: of Python or numpy, or an array or tensor of shape `()`."""
    if isinstance(value, int | np.integer):
        return not isinstance(value, bool)
    if not is_scalar_array(value) or "bool" in str(value.dtype):
        return False
    with suppress(TypeError):  # of floats and text
        operator.index(value)
        return True
    return False


def is_selection(key: Any) -> bool:
    """Return whether `key` selects any number of samples: a slice, or a list, range, array or tensor of keys."""
    if isinstance(key, slice | list | range):
        return True
    return (isinstance(key, np.ndarray) or is_tensor(key)) and not is_scalar_array(key)


def is_scalar_array(value: Any) -> bool:
    """Return whether `value` is an array or tensor of shape `()`: one key, and not a list of keys."""
    return getattr(value, "ndim", None) == 0 and hasattr(value, "dtype")


def check_pair(pair: Any, key_type: str, *, column: str) -> tuple[Key, object]:
    """Return a pair of a checked key and a sample; raises `SchemaError` if `pair` is not one."""
    parts: Any = None if isinstance(pair, str | bytes) else pair  # two characters are no pair
    try:
        key, value = parts
    except (TypeError, ValueError) as error:
        raise SchemaError(
            f"column {column!r}: expected pairs of key and sample, found {describe_value(pair)}"
        ) from error
    return check_key(key, key_type, column=column), value


def check_positions(positions: NDArray[np.int64], count: int, *, column: str) -> NDArray[np.int64]:
    """Return positions counted from the start; negative ones count from the end. Raises `InvalidInputError`."""
    if not len(positions):
        return positions
    wrong = positions[(positions < -count) | (positions >= count)]
    if len(wrong):
        raise InvalidInputError(f"column {column!r}: position {wrong[0]} is out of range for {count} samples")
    return np.where(positions < 0, positions + count, positions)


def check_mask(mask: NDArray[Any], count: int, *, column: str) -> NDArray[np.int64]:
    """Return the positions that a mask over all `count` samples, in key order, selects."""
    if mask.shape != (count,):
        raise SchemaError(f"column {column!r}: expected a mask of {count} samples, found shape {mask.shape}")
    return np.flatnonzero(mask)


def format_nested(parts: tuple[Any, ...], where: str) -> str:
    """Return the text of a tuple of int and str; raises `SchemaError` naming `where` for any other tuple."""
    plain = [int(part) if hasattr(part, "__index__") and not isinstance(part, bool) else part for part in parts]
    if not plain or not all(isinstance(part, int | str) and not isinstance(part, bool) for part in plain):
        raise SchemaError(f"{where}: expected a key of int and str such as ('patient', 3), found {parts!r:.80}")
    return _dump(plain)


def parse_nested(text: str) -> SampleKey:
    """Return the tuple that a text encodes, or the text itself if it encodes none."""
    if not text.startswith("[") or not text.endswith("]"):
        return text
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_key = bool(parts) and all(type(part) in (int, str) for part in parts)
    return tuple(parts) if is_key and _dump(parts) == text else text


def _dump(parts: list[Any]) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
