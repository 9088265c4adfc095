"""Reads the bytes behind the entries of trees: from an entry to its chunks, and from chunks to bytes.

The unflushed chunks of a workspace are read as if the store already held them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.entries import list_chunks
from stockroom.digest import DIGEST_NBYTES
from stockroom.store.entry import Entry, EntryKind
from stockroom.store.private_read import StoredTensor, read_private
from stockroom.store.tensor_store import TensorStore
from stockroom.trees import NodeStore

SampleBuffer: TypeAlias = bytearray | NDArray[np.uint8]
FindUnflushed: TypeAlias = Callable[[bytes], bytes | None]


class EntryReader:
    """Reads the bytes behind entries; `find_unflushed` returns the chunks that are not in the store yet."""

    def __init__(self, objects: NodeStore, tensors: TensorStore, find_unflushed: FindUnflushed | None = None) -> None:
        self._objects = objects
        self._tensors = tensors
        self._find = find_unflushed

    @property
    def reads_unflushed(self) -> bool:
        """Whether this also reads the unflushed chunks of a workspace."""
        return self._find is not None

    def read(self, entries: Sequence[Entry]) -> list[NDArray[np.uint8]]:
        """Return the raw bytes behind entries, each `(nbytes,)` and owned by the caller; mapped if possible.

        Absent chunks are fetched in one request. Raises `AbsentDataError` if they cannot be fetched.
        """
        chunked = [list_chunks(self._objects, entry) for entry in entries if entry.kind is not EntryKind.INLINE]
        read = iter(self.read_tensors(chunked))
        return [
            np.frombuffer(bytearray(entry.payload), np.uint8) if entry.kind is EntryKind.INLINE else next(read)
            for entry in entries
        ]

    def read_tensors(self, wanted: Sequence[StoredTensor]) -> list[NDArray[np.uint8]]:
        """Return bytes as `read` does, for tensors whose chunks are given, all or some."""
        unflushed = [self._read_unflushed(tensor.digests) for tensor in wanted]
        is_stored = [all(data is None for data in found) for found in unflushed]
        stored = [tensor for tensor, whole in zip(wanted, is_stored, strict=True) if whole]
        read = iter(read_private(self._tensors, stored))
        return [
            next(read) if whole else np.frombuffer(bytearray().join(self._copy(tensor, found)), np.uint8)
            for tensor, found, whole in zip(wanted, unflushed, is_stored, strict=True)
        ]

    def copy(self, entries: Sequence[Entry]) -> list[SampleBuffer]:
        """Return the bytes of samples as `read` does, but copy single chunks, and decode a block once for all in it."""
        single = [entry for entry in entries if entry.kind is EntryKind.CHUNK]
        digests = np.frombuffer(b"".join([entry.payload for entry in single]), np.uint8).reshape(-1, DIGEST_NBYTES)
        chunks = StoredTensor(digests, np.array([entry.nbytes for entry in single], np.int64))
        copied = iter(self._copy(chunks, self._read_unflushed(digests)))
        return [next(copied) if entry.kind is EntryKind.CHUNK else self.read([entry])[0] for entry in entries]

    def view(self, entry: Entry) -> SampleBuffer:
        """Return the raw bytes behind an entry, read-only; no copy if its chunk is stored raw."""
        if entry.kind is not EntryKind.CHUNK or self._find is not None:
            return self.copy([entry])[0]
        digest = list_chunks(self._objects, entry).digests
        tensors = self._tensors
        return tensors.retry_when_moved(lambda: tensors.view(int(tensors.locate(digest, entry.nbytes)[0])))

    def is_present(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return a mask `(n,)` of the chunks whose bytes are on this machine, in the store or unflushed."""
        is_here = self._is_unflushed(digests)
        if not is_here.all():
            is_here[~is_here] = self._tensors.is_present(digests[~is_here])
        return is_here

    def drop_unflushed(self, digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the digests without those of unflushed chunks."""
        return digests if self._find is None else digests[~self._is_unflushed(digests)]

    def _is_unflushed(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        if self._find is None:
            return np.zeros(len(digests), bool)
        return np.array([data is not None for data in self._read_unflushed(digests)], bool)

    def _read_unflushed(self, digests: NDArray[np.uint8]) -> list[bytes | None]:
        find = self._find
        return [None] * len(digests) if find is None else [find(digest.tobytes()) for digest in digests]

    def _copy(self, chunks: StoredTensor, unflushed: list[bytes | None]) -> list[bytearray]:
        """Return the bytes of each chunk, from `unflushed` or else from the store."""
        stored = [position for position, data in enumerate(unflushed) if data is None]
        digests, nbytes, tensors = chunks.digests[stored], chunks.lengths[stored], self._tensors
        if not stored:
            return [bytearray(data) for data in unflushed if data is not None]
        read = iter(tensors.retry_when_moved(lambda: tensors.read_many(tensors.locate(digests, nbytes))))
        return [next(read) if data is None else bytearray(data) for data in unflushed]
