"""The keys of a tree: the operations on a batch of them, and the types in which callers pass them.

A tree's keys are all int (int64, in numeric order) or all str (in code point order, which is the order of their UTF-8
bytes). Everything above this module handles either kind through the `Keys` protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Key: TypeAlias = int | str
KeyBatch: TypeAlias = NDArray[np.int64] | list[str]
"""Keys as callers get them: an int64 array or a list of str."""

KeysLike: TypeAlias = NDArray[Any] | Sequence[int] | Sequence[str]
"""Keys as callers may pass them."""


class KeyType(StrEnum):
    """The type of the keys of one tree."""

    INT = "int"
    STR = "str"

    @property
    def code(self) -> int:
        """The byte that denotes this key type in a node."""
        return _CODES[self]


_CODES = {KeyType.INT: 1, KeyType.STR: 2}
KEY_TYPE_OF_CODE = {code: key_type for key_type, code in _CODES.items()}


class Keys(Protocol):
    """An immutable batch of keys of one type; operations between two batches need the same type."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Key: ...

    @property
    def batch(self) -> KeyBatch:
        """The keys as callers get them; an array is a read-only view."""
        ...

    def slice(self, start: int, stop: int) -> Self:
        """Return the keys from `start` up to `stop`, as a view if the kind allows."""
        ...

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Return the keys at `indices`."""
        ...

    def concat(self, others: Sequence[Self]) -> Self:
        """Return these keys followed by those of every batch in `others`."""
        ...

    def argsort(self) -> NDArray[np.int64]:
        """Return the order that sorts the keys; stable."""
        ...

    def is_strictly_sorted(self) -> bool:
        """Return whether each key is greater than the one before it."""
        ...

    def equals(self, other: Self) -> bool:
        """Return whether both are the same keys in the same order."""
        ...

    def find(self, key: Key) -> int:
        """Return the number of keys below `key` (the keys are sorted)."""
        ...

    def count_up_to(self, key: Key) -> int:
        """Return the number of keys up to and including `key` (the keys are sorted)."""
        ...

    def locate(self, wanted: Self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each wanted key is or would go `(n,)`, and whether it is there `(n,)`; both are sorted."""
        ...

    def hashes(self) -> NDArray[np.uint64]:
        """Return one 64-bit number per key, mixed further by each level of the tree."""
        ...

    def encoded_sizes(self) -> NDArray[np.int64]:
        """Return the bytes each key takes in a node."""
        ...

    def encode(self) -> bytes:
        """Return the keys' bytes in a node."""
        ...
