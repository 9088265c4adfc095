"""The digest of what an entry stands for, told from metadata alone."""

from __future__ import annotations

from stockroom.digest import ObjectDigest, compute_digest
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.trees import NodeStore


def digest_entry(objects: NodeStore, entry_format: EntryFormat, value: bytes | None) -> str | None:
    """The hex digest of the raw bytes behind a tree's value; None for no value."""
    if value is None:
        return None
    entry = entry_format.decode(value)
    if entry.kind is EntryKind.INLINE:
        return compute_digest(entry.payload).hex()
    if entry.kind is EntryKind.CHUNK:
        return entry.payload.hex()
    where = f"chunk list {entry.payload.hex()[:16]}"
    return decode_chunk_list(objects.get_object(ObjectDigest(entry.payload)), where=where).tensor_digest.hex()
