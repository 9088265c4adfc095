"""String keys: a list of str, in code point order.

A key is encoded as UTF-8 that permits lone surrogates, in at most 1024 bytes. In a node: one uint32 for each key, the
end of its text, then all texts together, little-endian. A key's size, for boundaries, counts its text and its uint32.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, islice
from operator import lt
from typing import Any, Self, final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, MalformedRecordError
from stockroom.trees.keys import Key, KeysLike

MAX_KEY_NBYTES = 1024
_END_NBYTES = 4


@final
class StrKeys:
    """A batch of str keys; `texts` is never modified."""

    __slots__ = ("_encoded", "texts")

    def __init__(self, texts: list[str], encoded: list[bytes] | None = None) -> None:
        self.texts: list[Any] = texts
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        return str(self.texts[index])

    @property
    def batch(self) -> list[str]:
        """The keys as a new list."""
        return list(self.texts)

    @property
    def encoded(self) -> list[bytes]:
        """The keys' UTF-8 bytes."""
        if self._encoded is None:
            self._encoded = [_encode(text) for text in self.texts]
        return self._encoded

    def slice(self, start: int, stop: int) -> Self:
        """Return the keys from `start` up to `stop`."""
        encoded = None if self._encoded is None else self._encoded[start:stop]
        return type(self)(self.texts[start:stop], encoded)

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Return the keys at `indices`."""
        texts = self.texts
        return type(self)([texts[index] for index in indices.tolist()])

    def concat(self, others: Sequence[Self]) -> Self:
        """Return these keys followed by those of every batch in `others`."""
        return type(self)([*self.texts, *chain.from_iterable([other.texts for other in others])])

    def argsort(self) -> NDArray[np.int64]:
        """Return the order that sorts the keys; stable."""
        return np.array(sorted(range(len(self.texts)), key=self.texts.__getitem__), np.int64)

    def is_strictly_sorted(self) -> bool:
        """Return whether each key is greater than the one before it."""
        return all(map(lt, self.texts, islice(self.texts, 1, None)))

    def equals(self, other: Self) -> bool:
        """Return whether both are the same keys in the same order."""
        return self.texts == other.texts

    def find(self, key: Key) -> int:
        """Return the number of keys below `key`."""
        return bisect_left(self.texts, key)

    def count_up_to(self, key: Key) -> int:
        """Return the number of keys up to and including `key`."""
        return bisect_right(self.texts, key)

    def locate(self, wanted: Self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each wanted key is or would be inserted, and whether it is there."""
        texts = self.texts
        positions = np.fromiter(_search_all(texts, wanted.texts), np.int64, len(wanted.texts))
        found = np.fromiter(
            (p < len(texts) and texts[p] == text for p, text in zip(positions.tolist(), wanted.texts, strict=True)),
            np.bool_,
            len(wanted.texts),
        )
        return positions, found

    def hashes(self) -> NDArray[np.uint64]:
        """Return the first 8 bytes of each key's BLAKE3, as little-endian words."""
        joined = b"".join([blake3(encoded).digest(length=8) for encoded in self.encoded])
        return np.frombuffer(joined, "<u8")

    def encoded_sizes(self) -> NDArray[np.int64]:
        """Return the length of each key's UTF-8 and of its end offset."""
        lengths = np.fromiter(map(len, self.encoded), np.int64, len(self.texts))
        return lengths + _END_NBYTES

    def encode(self) -> bytes:
        """Encode end offsets, then texts."""
        ends = np.fromiter(accumulate(map(len, self.encoded)), "<u4", len(self.texts))
        return b"".join([ends.tobytes(), *self.encoded])


def str_keys(keys: KeysLike) -> StrKeys:
    """Copy keys into a batch of the tree's own; raises `InvalidInputError` if any cannot be a key."""
    if isinstance(keys, str):
        raise InvalidInputError(f"str keys: expected a list of str, found the str {keys!r}")
    return StrKeys([check_str_key(key) for key in keys])


def check_str_key(key: object) -> str:
    """Return `key` as a str; raises `InvalidInputError` unless it is one of at most 1024 UTF-8 bytes."""
    if not isinstance(key, str):
        raise InvalidInputError(f"str keys: expected a str, found {key!r} ({type(key).__name__})")
    if len(key) * 4 > MAX_KEY_NBYTES and len(_encode(key)) > MAX_KEY_NBYTES:
        raise InvalidInputError(f"str keys: expected at most {MAX_KEY_NBYTES} UTF-8 bytes, found {len(_encode(key))}")
    return str(key)


def decode_str_keys(data: bytes, *, offset: int, count: int) -> tuple[StrKeys, int]:
    """Decode `count` keys at `offset`; returns them and their end. Raises `MalformedRecordError` if malformed."""
    start = offset + _END_NBYTES * count
    if start > len(data):
        raise MalformedRecordError(f"node: expected {count} key offsets, found {len(data) - offset} bytes")
    ends = np.frombuffer(data, "<u4", count, offset).astype(np.int64)
    _check_ends(ends, len(data) - start)
    end = start + (int(ends[-1]) if count else 0)
    return StrKeys(_decode_texts(data[start:end], ends)), end


def _check_ends(ends: NDArray[np.int64], available: int) -> None:
    if not len(ends):
        return
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    if lengths.min() < 0 or lengths.max() > MAX_KEY_NBYTES or ends[-1] > available:
        raise MalformedRecordError(f"node: key offsets do not ascend within {available} bytes of text")


def _decode_texts(joined: bytes, ends: NDArray[np.int64]) -> list[str]:
    stops = ends.tolist()
    spans = zip([0, *stops], stops, strict=False)
    if joined.isascii():
        text = joined.decode("ascii")
        return [text[start:stop] for start, stop in spans]
    try:
        return [joined[start:stop].decode("utf-8", "surrogatepass") for start, stop in spans]
    except UnicodeDecodeError as error:
        raise MalformedRecordError(f"node: a key is not UTF-8: {error.reason}") from error


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _search_all(texts: list[Any], wanted: list[Any]) -> list[int]:
    position = 0
    positions = []
    for text in wanted:
        position = bisect_left(texts, text, position)
        positions.append(position)
    return positions
