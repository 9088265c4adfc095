"""The format that all nodes of one tree share, and the conversion of callers' keys and values to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stockroom.errors import InvalidInputError
from stockroom.trees.int_keys import check_int_key, int_keys
from stockroom.trees.keys import Key, Keys, KeysLike, KeyType
from stockroom.trees.str_keys import check_str_key, str_keys

MAX_VALUE_WIDTH = 4096


@dataclass(frozen=True, slots=True)
class TreeFormat:
    """A tree's key type and the width of its values in bytes."""

    key_type: KeyType
    value_width: int

    def __post_init__(self) -> None:
        if not 0 <= self.value_width <= MAX_VALUE_WIDTH:
            raise InvalidInputError(f"value width: expected 0 to {MAX_VALUE_WIDTH} bytes, found {self.value_width}")

    def make_keys(self, keys: KeysLike) -> Keys:
        """Convert keys to this tree's own; raises `InvalidInputError` if a key is of another type."""
        return int_keys(keys) if self.key_type is KeyType.INT else str_keys(keys)

    def check_key(self, key: object) -> Key:
        """Convert `key` to this tree's own; raises `InvalidInputError` if it is of another type."""
        return check_int_key(key) if self.key_type is KeyType.INT else check_str_key(key)

    def make_values(self, values: ArrayLike | None, *, count: int) -> NDArray[np.uint8]:
        """Return the values as `(count, value_width)` uint8; raises `InvalidInputError` for another shape or dtype.

        `None` means `count` values of width 0, or, with `count` 0, no values.
        """
        if values is None:
            values = np.empty((count, 0) if count else (0, self.value_width), np.uint8)
        array: NDArray[Any] = np.asarray(values)
        if array.dtype != np.uint8 or array.shape != (count, self.value_width):
            raise InvalidInputError(
                f"values: expected uint8 {(count, self.value_width)}, found {array.dtype} {array.shape}"
            )
        return array


@lru_cache(maxsize=256)
def tree_format_of(key_type: KeyType, value_width: int) -> TreeFormat:
    """Return the one instance that nodes share, so formats can be compared by identity."""
    return TreeFormat(key_type, value_width)
