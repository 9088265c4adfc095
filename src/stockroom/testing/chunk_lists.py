"""Chunk lists of chunks that a test has cut and hashed itself."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from stockroom.store.chunk_run import make_chunk_list
from stockroom.store.chunking import ChunkList


def list_chunks(chunks: Sequence[memoryview], digests: Sequence[bytes]) -> ChunkList:
    """Return the chunk list of `chunks`, which all have one length except the last."""
    whole = blake3(b"".join(chunks))
    return make_chunk_list(sum(map(len, chunks)), len(chunks[0]), whole, digests)
