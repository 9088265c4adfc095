"""Reads the leaves of one stored state: from paths to raw bytes that belong to the caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.entries import as_stored, digest_entry, list_chunks, read_chunk_list
from stockroom.content.nodes import measure_leaf
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, StateRecord, ValueRecord
from stockroom.content.structure import Structure
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import CorruptionError
from stockroom.shelves.entry_reader import EntryReader, FindUnflushed
from stockroom.shelves.pin import Pin
from stockroom.store.chunking import ChunkList
from stockroom.store.entry import Entry, EntryKind
from stockroom.store.pack.pack import StalePackError
from stockroom.store.private_read import LocatedTensor, StoredTensor, locate_tensors, read_located
from stockroom.store.tensor_store import TensorStore

_READS_BEFORE_LOCATING: Final = 4
"""After this many reads, all leaves are located at once; for fewer reads that would be slower."""

_NO_DIGESTS: Final = np.empty((0, DIGEST_NBYTES), np.uint8)


class LeafReader:
    """Reads the bytes of one state's leaves. Paths are those under which leaves are stored."""

    def __init__(
        self,
        snapshot: Snapshot,
        record: StateRecord | ValueRecord,
        tensors: TensorStore,
        find_unflushed: FindUnflushed | None = None,
    ) -> None:
        """`find_unflushed` returns the chunks that are not in the store yet."""
        self._snapshot = snapshot
        self.record = record
        self.tensors = tensors
        self._entries = EntryReader(snapshot.nodes, tensors, find_unflushed)
        self._reads = 0
        self._located: dict[str, LocatedTensor] = {}
        self._inline: dict[str, bytes] = {}

    @cached_property
    def structure(self) -> Structure:
        """The state's structure."""
        return self._snapshot.read_structure(self.record)

    def read(self, paths: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """Return the raw bytes of leaves, each `(nbytes,)` and writable; absent chunks are fetched in one request."""
        self._reads += 1
        if self._reads > _READS_BEFORE_LOCATING and not self._entries.reads_unflushed:
            return self._read_located(paths)
        return self._read(paths)

    def _read(self, paths: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        entries = self.get_entries(paths)
        return dict(zip(entries, self._entries.read(list(entries.values())), strict=True))

    def _read_located(self, paths: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """Return `_read`, but from the locations of all leaves, which the first call finds."""
        found = {path: np.frombuffer(bytearray(self._inline[path]), np.uint8) for path in paths if path in self._inline}
        others = [path for path in paths if path not in found]
        try:
            if not self._located.keys() >= set(others):
                self._locate_all()
                return self._read_located(paths)
            read = read_located(self.tensors, [self._located[path] for path in others])
        except StalePackError:  # packs were rewritten since
            self._located = {}
            return self._read(paths)
        return found | dict(zip(others, read, strict=True))

    def _locate_all(self) -> None:
        entries = self.get_entries(list(self.structure.stored))
        self._inline = {path: e.payload for path, e in entries.items() if e.kind is EntryKind.INLINE}
        stored = {
            path: list_chunks(self._snapshot.nodes, e) for path, e in entries.items() if e.kind is not EntryKind.INLINE
        }
        self._located = dict(zip(stored, locate_tensors(self.tensors, list(stored.values())), strict=True))

    def read_rows(self, path: str, rows: NDArray[np.int64], row_nbytes: int) -> NDArray[np.uint8]:
        """Return rows of axis 0 of a leaf, `(n * row_nbytes,)`, writable; reads only the chunks that hold them."""
        if not len(rows) or not row_nbytes:
            return np.empty(0, np.uint8)
        entry = self.get_entries([path])[path]
        if entry.kind is not EntryKind.CHUNK_LIST:
            picked: NDArray[np.uint8] = self.read([path])[path].reshape(-1, row_nbytes)[rows].reshape(-1)
            return picked
        chunks = read_chunk_list(self._snapshot.nodes, entry)
        needed = _locate_chunks(rows, row_nbytes, chunks)
        runs = np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1)
        stored = as_stored(chunks)
        read = self._entries.read_tensors([StoredTensor(stored.digests[run], stored.lengths[run]) for run in runs])
        return _pick_rows(rows, row_nbytes, [int(run[0]) * chunks.chunk_nbytes for run in runs], read)

    def iter_bytes(self, path: str, nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield a leaf's raw bytes in order, writable, in pieces of about `nbytes`, or one chunk if that is more."""
        entry = self.get_entries([path])[path]
        if entry.kind is not EntryKind.CHUNK_LIST:
            yield self.read([path])[path]
            return
        stored = list_chunks(self._snapshot.nodes, entry)
        step = max(1, nbytes // int(stored.lengths[0]))
        for start in range(0, len(stored.lengths), step):
            part = slice(start, start + step)
            yield self._entries.read_tensors([StoredTensor(stored.digests[part], stored.lengths[part])])[0]

    def get_entries(self, paths: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of leaves, all of them inline for a value record; raises `CorruptionError`."""
        if isinstance(self.record, ValueRecord):
            payloads = dict(zip(self.structure.stored, self.record.payloads, strict=True))
            return {
                path: Entry(EntryKind.INLINE, (len(payloads[path]),), len(payloads[path]), payloads[path])
                for path in paths
            }
        entries = self.look_up(paths)
        for path in paths:
            if path not in entries:
                raise CorruptionError(f"leaf {path!r} is in the structure but not in the tree; run `stock fsck`")
            nbytes = measure_leaf(self.structure.leaves[path])
            if nbytes not in (None, entries[path].nbytes):
                raise CorruptionError(
                    f"leaf {path!r}: the structure says {nbytes} bytes, found {entries[path].nbytes}; run `stock fsck`"
                )
        return entries

    def look_up(self, paths: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of those `paths` that are in a state record's tree."""
        assert isinstance(self.record, StateRecord)
        found, values = self._snapshot.open_tree(self.record).get_many(list(paths))
        return {
            path: STATE_ENTRIES.decode(value.tobytes())
            for path, is_there, value in zip(paths, found.tolist(), values, strict=True)
            if is_there
        }

    def list_chunks(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        """Return the digests `(n, 32)` of the chunks behind leaves, in order; inline leaves have none."""
        chunks = [list_chunks(self._snapshot.nodes, entry).digests for entry in self.get_entries(paths).values()]
        joined: NDArray[np.uint8] = np.concatenate([_NO_DIGESTS, *chunks])
        return joined

    def list_stored(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        """Return `list_chunks` without the unflushed chunks."""
        return self._entries.drop_unflushed(self.list_chunks(paths))

    def digest_entries(self, entries: Iterable[Entry]) -> list[str]:
        """Return the hex BLAKE3-256 digest of the raw bytes behind each entry; does not need those bytes here."""
        return [digest_entry(self._snapshot.nodes, entry).hex() for entry in entries]


def open_leaves(pin: Pin, record: StateRecord | ValueRecord) -> LeafReader:
    """Return the reader of a state's leaves, including unflushed ones of the workspace."""
    workspace = pin.workspace
    find = None if workspace is None or workspace.is_flushed else workspace.read_unflushed_chunk
    snapshot = pin.snapshot if workspace is None else workspace.base  # any of it: the record says which objects to read
    return LeafReader(snapshot, record, pin.tensors, find)


def _locate_chunks(rows: NDArray[np.int64], row_nbytes: int, chunks: ChunkList) -> NDArray[np.int64]:
    """Return the positions of the chunks that hold any of the rows, ascending."""
    starts = np.bincount(rows * row_nbytes // chunks.chunk_nbytes, minlength=len(chunks.digests) + 1)
    stops = np.bincount(((rows + 1) * row_nbytes - 1) // chunks.chunk_nbytes + 1, minlength=len(chunks.digests) + 1)
    return np.flatnonzero(np.cumsum(starts - stops))


def _pick_rows(
    rows: NDArray[np.int64], row_nbytes: int, starts: list[int], read: list[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return rows out of runs of a leaf's bytes that begin at `starts`; no copy if they are consecutive in one run."""
    if len(read) == 1 and (np.diff(rows) == 1).all():
        start = int(rows[0]) * row_nbytes - starts[0]
        return read[0][start : start + len(rows) * row_nbytes]
    out = np.empty((len(rows), row_nbytes), np.uint8)
    which = np.searchsorted(starts, rows * row_nbytes, "right") - 1
    for part in np.unique(which).tolist():
        first = -(-starts[part] // row_nbytes)  # the first row that is whole in this run
        skipped = first * row_nbytes - starts[part]
        count = (len(read[part]) - skipped) // row_nbytes
        whole = read[part][skipped : skipped + count * row_nbytes].reshape(count, row_nbytes)
        out[which == part] = whole[rows[which == part] - first]
    return out.reshape(-1)
