"""The chunks behind an entry of a tree."""

from __future__ import annotations

import numpy as np

from stockroom.digest import DIGEST_NBYTES, ObjectDigest, compute_digest
from stockroom.errors import CorruptionError
from stockroom.store.chunking import ChunkList, decode_chunk_list
from stockroom.store.entry import Entry, EntryKind
from stockroom.store.private_read import StoredTensor
from stockroom.trees import NodeStore


def list_chunks(objects: NodeStore, entry: Entry) -> StoredTensor:
    """Return the chunks behind an entry; an inline entry has none."""
    if entry.kind is EntryKind.CHUNK_LIST:
        return as_stored(read_chunk_list(objects, entry))
    is_chunk = entry.kind is EntryKind.CHUNK
    digests = np.frombuffer(entry.payload if is_chunk else b"", np.uint8).reshape(-1, DIGEST_NBYTES)
    return StoredTensor(digests, np.array([entry.nbytes] if is_chunk else [], np.int64))


def as_stored(chunks: ChunkList) -> StoredTensor:
    """Return the chunks of a list, with their lengths."""
    lengths = np.full(len(chunks.digests), chunks.chunk_nbytes, np.int64)
    lengths[-1] = chunks.nbytes - chunks.chunk_nbytes * (len(lengths) - 1)
    return StoredTensor(chunks.digests, lengths)


def read_chunk_list(objects: NodeStore, entry: Entry) -> ChunkList:
    """Return the chunk list that the entry of a large tensor refers to."""
    where = f"chunk list {entry.payload.hex()[:16]}"
    chunks = decode_chunk_list(objects.get_object(ObjectDigest(entry.payload)), where=where)
    if chunks.nbytes != entry.nbytes:
        raise CorruptionError(f"{where}: expected {entry.nbytes} bytes, found {chunks.nbytes}; run `stock fsck`")
    return chunks


def digest_entry(objects: NodeStore, entry: Entry) -> bytes:
    """Return the digest of the raw bytes behind an entry; reads only metadata."""
    if entry.kind is EntryKind.INLINE:
        return compute_digest(entry.payload)
    return entry.payload if entry.kind is EntryKind.CHUNK else read_chunk_list(objects, entry).tensor_digest
