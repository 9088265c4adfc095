"""The index at the end of a Zarr `sharding_indexed` shard, which locates each encoded block.

It is `blocks x (u64 offset, u64 nbytes)` little-endian, then the CRC-32C of those bytes as u32 little-endian.
"""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from stockroom.digest import Buffer
from stockroom.errors import MalformedRecordError
from stockroom.store.codecs import CRC_NBYTES

ENTRY_NBYTES = 16


def index_nbytes(blocks: int) -> int:
    """Return the size in bytes of the index of a shard of `blocks` blocks."""
    return blocks * ENTRY_NBYTES + CRC_NBYTES


def encode_index(spans: NDArray[np.uint64]) -> bytes:
    """Encode the index of `(blocks, 2)` spans: offset and encoded size of each block, in bytes."""
    body = np.ascontiguousarray(spans, "<u8").tobytes()
    return body + int(google_crc32c.value(body)).to_bytes(CRC_NBYTES, "little")


def decode_index(tail: Buffer, *, body_nbytes: int, where: str) -> NDArray[np.uint64]:
    """Decode `(blocks, 2)` offsets and sizes from a shard's tail, as a view; every block is in the first `body_nbytes`.

    Raises `MalformedRecordError` naming `where`.
    """
    encoded = np.frombuffer(tail, np.uint8)
    body, crc = encoded[:-CRC_NBYTES], encoded[-CRC_NBYTES:].tobytes()
    if len(body) % ENTRY_NBYTES or int(google_crc32c.value(body)).to_bytes(CRC_NBYTES, "little") != crc:
        raise MalformedRecordError(f"{where}: shard index fails its checksum; run `stock fsck`", where=where)
    spans = np.frombuffer(body, "<u8").reshape(-1, 2)
    ends = spans[:, 0] + spans[:, 1]
    if len(spans) and (int(ends.max()) > body_nbytes or bool((ends < spans[:, 0]).any())):
        raise MalformedRecordError(f"{where}: shard index points outside the shard; run `stock fsck`", where=where)
    return spans
