"""Integer keys: an int64 array, in numeric order.

In a node: the first key as int64, then the distance of each further key from the one before it as uint64, all
little-endian. Distances wrap modulo 2**64, and small ones compress well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, MalformedRecordError
from stockroom.trees.keys import Key, KeysLike

KEY_NBYTES = 8
_LONGEST_LIST = 16_384  # above this a binary search in the array beats making a list of it
_INT64 = np.iinfo(np.int64)


@final
class IntKeys:
    """A batch of int64 keys; `array` is `(n,)` and never modified."""

    __slots__ = ("_list", "array")

    def __init__(self, array: NDArray[np.int64]) -> None:
        self.array = array
        self._list: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> int:
        return int(self.array[index])

    @property
    def batch(self) -> NDArray[np.int64]:
        """The keys as a read-only int64 view."""
        view = self.array.view()
        view.flags.writeable = False
        return view

    def slice(self, start: int, stop: int) -> Self:
        """Return the keys from `start` up to `stop`, as a view."""
        return type(self)(self.array[start:stop])

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Return the keys at `indices`."""
        return type(self)(self.array[indices])

    def concat(self, others: Sequence[Self]) -> Self:
        """Return these keys followed by those of every batch in `others`."""
        return type(self)(np.concatenate([self.array, *[other.array for other in others]]))

    def argsort(self) -> NDArray[np.int64]:
        """Return the order that sorts the keys; stable."""
        return self.array.argsort(kind="stable")

    def is_strictly_sorted(self) -> bool:
        """Return whether each key is greater than the one before it."""
        return int(np.count_nonzero(self.array[1:] > self.array[:-1])) == max(len(self.array) - 1, 0)

    def equals(self, other: Self) -> bool:
        """Return whether both are the same keys in the same order."""
        return self.array is other.array or np.array_equal(self.array, other.array)

    def find(self, key: Key) -> int:
        """Return the number of keys below `key`."""
        if self._list is None and len(self.array) > _LONGEST_LIST:
            return _search(self.array, key, "left")
        return bisect_left(self._as_list(), key)

    def count_up_to(self, key: Key) -> int:
        """Return the number of keys up to and including `key`."""
        if self._list is None and len(self.array) > _LONGEST_LIST:
            return _search(self.array, key, "right")
        return bisect_right(self._as_list(), key)

    def locate(self, wanted: Self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each wanted key is or would be inserted, and whether it is there."""
        if len(wanted) > 1 and self.equals(wanted):
            return np.arange(len(wanted)), np.ones(len(wanted), np.bool_)
        positions = self.array.searchsorted(wanted.array)
        if not len(self.array):
            return positions, np.zeros(len(wanted.array), np.bool_)
        nearest = np.minimum(positions, len(self.array) - 1)
        return positions, self.array[nearest] == wanted.array

    def hashes(self) -> NDArray[np.uint64]:
        """Return the bits of the keys themselves."""
        return self.array.view(np.uint64)

    def encoded_sizes(self) -> NDArray[np.int64]:
        """Return 8 bytes for each key."""
        return np.full(len(self.array), KEY_NBYTES, np.int64)

    def encode(self) -> bytes:
        """Encode the first key, then distances, as little-endian 64-bit words."""
        bits = self.array.view(np.uint64)
        words = np.empty(len(bits), "<u8")
        words[:1] = bits[:1]
        np.subtract(bits[1:], bits[:-1], out=words[1:])
        return words.tobytes()

    def _as_list(self) -> list[Any]:
        if self._list is None:
            self._list = self.array.tolist()
        return self._list


def int_keys(keys: KeysLike) -> IntKeys:
    """Copy keys into a batch of the tree's own; raises `InvalidInputError` if any is not an int64."""
    if not isinstance(keys, np.ndarray):
        return IntKeys(_from_sequence(keys))
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise InvalidInputError(f"int keys: expected a 1-D integer array, found {keys.dtype} {keys.shape}")
    if keys.dtype == np.uint64 and len(keys) and int(keys.max()) > _INT64.max:
        raise InvalidInputError(f"int keys: expected int64, found {int(keys.max())}")
    return IntKeys(keys.astype(np.int64))


def check_int_key(key: object) -> int:
    """Return `key` as an int; raises `InvalidInputError` if it is a bool or not an integer."""
    if type(key) is int:
        return key
    if isinstance(key, np.integer):
        return int(key)
    raise InvalidInputError(f"int keys: expected an int, found {key!r} ({type(key).__name__})")


def decode_int_keys(data: bytes, *, offset: int, count: int) -> tuple[IntKeys, int]:
    """Decode `count` keys at `offset`; returns them and their end. Raises `MalformedRecordError` if malformed."""
    end = offset + KEY_NBYTES * count
    if end > len(data):
        raise MalformedRecordError(f"node: expected {count} int keys, found {len(data) - offset} bytes")
    words = np.frombuffer(data, "<u8", count, offset)
    return IntKeys(words.cumsum(dtype=np.uint64).view(np.int64)), end


def _from_sequence(keys: Sequence[Any]) -> NDArray[np.int64]:
    checked = [check_int_key(key) for key in keys]
    try:
        return np.array(checked, np.int64)
    except OverflowError as error:
        raise InvalidInputError("int keys: expected int64, found a larger one") from error


def _search(array: NDArray[np.int64], key: Any, side: Any) -> int:
    if key > _INT64.max:
        return len(array)
    return 0 if key < _INT64.min else int(array.searchsorted(np.int64(key), side))
