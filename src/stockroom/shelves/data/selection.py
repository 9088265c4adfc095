"""What callers may say to choose samples of a column: keys, positions, masks. Errors name the column."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.keys import format_nested
from stockroom.trees import Key, KeyType


def check_key(key: object, key_type: str, *, column: str) -> Key:
    """`key` as the column's tree has it: a tuple as its text. `SchemaError` if it cannot be one; True is no key."""
    if key_type == KeyType.STR:
        if isinstance(key, str):
            return key
        if isinstance(key, tuple):
            return format_nested(key, f"column {column!r}")
    elif type(key) is int:
        return key
    elif isinstance(key, int | np.integer) and not isinstance(key, bool):
        return operator.index(key)
    hint = "; to set many samples use update({key: sample})" if isinstance(key, slice | list | np.ndarray) else ""
    raise SchemaError(f"column {column!r}: expected {key_type} keys, found {key!r:.80} ({type(key).__name__}){hint}")


def check_positions(positions: NDArray[np.int64], count: int, *, column: str) -> NDArray[np.int64]:
    """Positions from the start, of `count` samples; negative ones count from the end, as in numpy."""
    if not len(positions):
        return positions
    wrong = positions[(positions < -count) | (positions >= count)]
    if len(wrong):
        raise InvalidInputError(f"column {column!r}: position {wrong[0]} is out of range for {count} samples")
    return np.where(positions < 0, positions + count, positions)


def check_mask(mask: NDArray[Any], count: int, *, column: str) -> NDArray[np.int64]:
    """The positions that a mask over all `count` samples, in key order, chooses."""
    if mask.shape != (count,):
        raise SchemaError(f"column {column!r}: expected a mask of {count} samples, found shape {mask.shape}")
    return np.flatnonzero(mask)
