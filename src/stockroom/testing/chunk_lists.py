"""Chunk lists of chunks cut and hashed by a test itself."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from stockroom.store.chunk_run import make_chunk_list
from stockroom.store.chunking import ChunkList


def list_chunks(chunks: Sequence[memoryview], digests: Sequence[bytes]) -> ChunkList:
    """The chunk list of `chunks`, all of one length but the last."""
    whole = blake3(b"".join(chunks))
    return make_chunk_list(sum(map(len, chunks)), len(chunks[0]), whole, digests)
