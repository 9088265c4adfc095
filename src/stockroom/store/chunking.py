"""Cuts tensors into chunks: up to 4 MiB whole, above that into runs of rows named by a chunk list.

A chunk list is a metadata object:

| offset | size | field |
|---|---|---|
| 0 | 4 | magic `SRcl` |
| 4 | 4 | version, u32 = 1 |
| 8 | 8 | bytes of the whole tensor, u64 |
| 16 | 8 | bytes of every chunk but the last, u64 |
| 24 | 32 | digest of the whole tensor's raw bytes |
| 56 | 32 x chunks | chunk digests, in order |
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, Buffer, view_bytes
from stockroom.errors import FormatVersionError, malformed

CHUNK_MAX_NBYTES = 4 << 20
INLINE_MAX_NBYTES = 32
CHUNK_ALIGNMENT_NBYTES = 64

_HEADER = struct.Struct("<4sIQQ32s")
_MAGIC = b"SRcl"
_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class ChunkList:
    """The chunks of one tensor over 4 MiB: `digests` is `(chunks, 32)`."""

    nbytes: int
    chunk_nbytes: int
    tensor_digest: bytes
    digests: NDArray[np.uint8]

    def encode(self) -> bytes:
        """Return the canonical bytes of the object."""
        header = _HEADER.pack(_MAGIC, _VERSION, self.nbytes, self.chunk_nbytes, self.tensor_digest)
        return header + self.digests.tobytes()


def decode_chunk_list(data: bytes, *, where: str) -> ChunkList:
    """Decode a chunk list; raises `MalformedRecordError` naming `where` if it is malformed."""
    if len(data) < _HEADER.size:
        raise malformed(where, "a chunk list", f"{len(data)} other bytes")
    magic, version, nbytes, chunk_nbytes, tensor_digest = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise malformed(where, "a chunk list", f"{len(data)} other bytes")
    if version != _VERSION:
        raise FormatVersionError(f"{where}: expected version {_VERSION}, found {version}; upgrade Stockroom")
    if not 0 < chunk_nbytes <= CHUNK_MAX_NBYTES or nbytes <= CHUNK_MAX_NBYTES:
        raise malformed(where, "a chunk list", f"{len(data)} other bytes")
    if len(data) != _HEADER.size + DIGEST_NBYTES * -(-nbytes // chunk_nbytes):
        raise malformed(where, "a chunk list", f"{len(data)} other bytes")
    digests = np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(-1, DIGEST_NBYTES)
    return ChunkList(nbytes, chunk_nbytes, tensor_digest, digests)


def measure_chunk(shape: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes of a full chunk of a tensor over 4 MiB: whole rows of axis 0, or elements if a row is larger.

    The size is a multiple of 64 bytes if possible: the chunks of a tensor then follow each other without a gap in a
    ragged pack, and can be mapped as one.
    """
    row_nbytes = itemsize * math.prod(shape[1:])
    unit = row_nbytes if row_nbytes <= CHUNK_MAX_NBYTES else itemsize
    count = CHUNK_MAX_NBYTES // unit
    step = CHUNK_ALIGNMENT_NBYTES // math.gcd(unit, CHUNK_ALIGNMENT_NBYTES)
    return (count // step * step or count) * unit


def split_tensor(raw: Buffer, chunk_nbytes: int) -> list[memoryview]:
    """Cut a tensor's raw bytes into chunks; views, not copies."""
    view = view_bytes(raw)
    return [view[start : start + chunk_nbytes] for start in range(0, len(view), chunk_nbytes)]
