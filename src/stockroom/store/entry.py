"""The encoding of one tensor in a tree: its bytes if they are few, else the digest of its chunk or chunk list.

Every entry of a column has the same width, which follows from the column's dtype and shape:

- fixed shape, at most 32 bytes: the raw bytes themselves;
- fixed shape, more: the 32-byte digest of its chunk (up to 4 MiB) or of its chunk list;
- variable shape: u8 kind (0 inline, 1 chunk, 2 chunk list), the shape as u64 little-endian each, then 32 bytes: the raw
  bytes zero-padded, or the digest.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import MalformedRecordError
from stockroom.store.chunking import CHUNK_MAX_NBYTES, INLINE_MAX_NBYTES

MAX_SAMPLE_NBYTES = 1 << 60
"""The size in bytes of the largest allowed tensor."""


class EntryKind(IntEnum):
    """Where an entry's bytes are."""

    INLINE = 0
    CHUNK = 1
    CHUNK_LIST = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One decoded entry: `payload` is the raw bytes or the digest, `nbytes` the tensor's size."""

    kind: EntryKind
    shape: tuple[int, ...]
    nbytes: int
    payload: bytes


def choose_kind(nbytes: int) -> EntryKind:
    """Choose where the bytes of a tensor of `nbytes` are."""
    if nbytes <= INLINE_MAX_NBYTES:
        return EntryKind.INLINE
    return EntryKind.CHUNK if nbytes <= CHUNK_MAX_NBYTES else EntryKind.CHUNK_LIST


class EntryFormat:
    """The entries of tensors of one dtype (`itemsize` bytes an element) and shape; None is an axis of any length."""

    __slots__ = ("_header", "item_nbytes", "itemsize", "kind", "shape", "width")

    def __init__(self, itemsize: int, shape: tuple[int | None, ...]) -> None:
        self.itemsize = itemsize
        self.shape = shape
        fixed = [length for length in shape if length is not None]
        self._header = struct.Struct(f"<B{len(shape)}Q")
        self.kind: EntryKind | None = None
        self.item_nbytes: int | None = None
        if len(fixed) == len(shape):
            self.item_nbytes = itemsize * math.prod(fixed)
            self.kind = choose_kind(self.item_nbytes)
        self.width = self._measure_width()

    @property
    def is_fixed(self) -> bool:
        """Whether every tensor has the same shape."""
        return self.item_nbytes is not None

    def encode(self, kind: EntryKind, shape: tuple[int, ...], payload: bytes) -> bytes:
        """Encode the entry of one tensor; `payload` is its raw bytes if inline, else the digest."""
        if self.is_fixed:
            return payload
        return self._header.pack(kind, *shape) + payload.ljust(DIGEST_NBYTES, b"\0")

    def decode(self, value: bytes) -> Entry:
        """Decode an entry of this format; raises `MalformedRecordError` if it is malformed."""
        if self.kind is not None and self.item_nbytes is not None:
            return Entry(self.kind, tuple(length or 0 for length in self.shape), self.item_nbytes, value)
        kind, *shape = self._header.unpack_from(value)
        nbytes = self.itemsize * math.prod(shape)
        extent = self.itemsize * math.prod(length or 1 for length in shape)  # the limit holds for empty arrays too
        if extent > MAX_SAMPLE_NBYTES or kind != choose_kind(nbytes) or not self._fits(shape):
            raise MalformedRecordError(f"entry of kind {kind} and shape {tuple(shape)} does not fit its column")
        payload = value[self._header.size :]
        if kind != EntryKind.INLINE:
            return Entry(EntryKind(kind), tuple(shape), nbytes, payload)
        if any(payload[nbytes:]):
            raise MalformedRecordError(f"inline entry of {nbytes} bytes is not padded with zeros")
        return Entry(EntryKind.INLINE, tuple(shape), nbytes, payload[:nbytes])

    def check(self, values: NDArray[np.uint8]) -> None:
        """Raise `MalformedRecordError` if any of `(n, width)` encoded entries would not decode."""
        if self.is_fixed or not len(values):
            return
        lengths = (
            np.ascontiguousarray(values[:, 1 : self._header.size]).view("<u8").reshape(len(values), len(self.shape))
        )
        is_bad = np.maximum(lengths, 1).astype(np.float64).prod(axis=1) * self.itemsize > MAX_SAMPLE_NBYTES
        nbytes = self.itemsize * np.where(is_bad[:, None], 0, lengths.astype(np.int64)).prod(axis=1)
        kinds = np.where(
            nbytes <= INLINE_MAX_NBYTES, 0, np.where(nbytes <= CHUNK_MAX_NBYTES, EntryKind.CHUNK, EntryKind.CHUNK_LIST)
        )
        is_bad |= values[:, 0] != kinds
        for axis, wanted in enumerate(self.shape):
            if wanted is not None:
                is_bad |= lengths[:, axis] != np.uint64(wanted)
        is_padding = np.arange(DIGEST_NBYTES) >= nbytes[:, None]
        is_bad |= (kinds == EntryKind.INLINE) & (is_padding & (values[:, self._header.size :] != 0)).any(axis=1)
        for value in values[is_bad]:
            self.decode(value.tobytes())

    def decode_kinds(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the kind of each of `(n, width)` encoded entries, as `(n,)`."""
        if self.kind is not None:
            return np.full(len(values), self.kind, np.uint8)
        return values[:, 0]

    def measure(self, values: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the size in bytes of the tensor of each of `(n, width)` encoded entries, as `(n,)`."""
        if self.item_nbytes is not None:
            return np.full(len(values), self.item_nbytes, np.int64)
        lengths = np.ascontiguousarray(values[:, 1 : self._header.size]).view("<u8").astype(np.int64)
        counts: NDArray[np.int64] = lengths.reshape(len(values), len(self.shape)).prod(axis=1, dtype=np.int64)
        return self.itemsize * counts

    def slice_digests(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the last 32 bytes of each entry, as `(n, 32)`: its digest unless it is inline."""
        return np.ascontiguousarray(values[:, self.width - DIGEST_NBYTES :])

    def _measure_width(self) -> int:
        if self.item_nbytes is None:
            return self._header.size + DIGEST_NBYTES
        return self.item_nbytes if self.kind is EntryKind.INLINE else DIGEST_NBYTES

    def _fits(self, shape: list[int]) -> bool:
        return all(wanted is None or wanted == length for wanted, length in zip(self.shape, shape, strict=True))
