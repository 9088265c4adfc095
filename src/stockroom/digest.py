"""BLAKE3-256 digests, and the types of ids made from them. Knows nothing of the data it hashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NewType, TypeAlias

import numpy as np
from blake3 import blake3

from stockroom.errors import DigestMismatchError

DIGEST_NBYTES = 32
_started_as: Final = os.getpid()

Buffer: TypeAlias = bytes | bytearray | memoryview | np.ndarray
"""Anything contiguous that hashing reads in place."""

ChunkDigest = NewType("ChunkDigest", bytes)
"""Digest of a chunk's raw, unencoded bytes."""

PackDigest = NewType("PackDigest", bytes)
"""Digest of a pack's manifest."""

ObjectDigest = NewType("ObjectDigest", bytes)
"""Digest of a metadata object's canonical bytes: node, column record, chunk list."""

CommitId = NewType("CommitId", bytes)
"""Digest of a commit record's canonical bytes."""


def view_bytes(data: Buffer) -> memoryview:
    """Return a view of the bytes of `data`."""
    return memoryview(data).cast("B")  # type: ignore[arg-type]  # numpy's stubs declare no buffer before 3.12


def compute_digest(data: Buffer) -> bytes:
    """Return the 32-byte BLAKE3 digest of `data`."""
    return blake3(view_bytes(data)).digest()


def compute_file_digest(path: Path) -> bytes:
    """Return the 32-byte BLAKE3 digest of a file, computed on all processors.

    A forked child uses only one: it would wait for its parent's hashing threads, which do not exist there.
    """
    hasher = blake3(max_threads=1 if os.getpid() != _started_as else blake3.AUTO)
    return hasher.update_mmap(path).digest()


def check_digest(data: Buffer, expected: bytes, *, where: str) -> None:
    """Raise `DigestMismatchError` naming `where` unless `data` hashes to `expected`."""
    actual = compute_digest(data)
    if actual != expected:
        raise DigestMismatchError(expected.hex(), actual.hex(), where=where)
