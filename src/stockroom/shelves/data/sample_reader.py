"""Reads samples: from positions in a column's tree to arrays.

Whole leaf nodes are resolved to vectors and kept (`vectors`). A batch then costs one lookup in them and one gather.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.entries import digest_entry, list_chunks
from stockroom.digest import DIGEST_NBYTES
from stockroom.shelves.data.leaf_locations import LeafLocations
from stockroom.shelves.data.leaf_vectors import LeafVectors
from stockroom.shelves.data.values import Array, decode_text
from stockroom.shelves.entry_reader import EntryReader, FindUnflushed, SampleBuffer
from stockroom.shelves.read_ahead import ReadAhead
from stockroom.store.dtypes import parse_dtype
from stockroom.store.entry import Entry, EntryKind
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.pack.pack import StalePackError
from stockroom.store.pack.pack_cache import GatherPlan
from stockroom.store.tensor_store import TensorStore
from stockroom.trees import Key, KeyType, Tree

Sample: TypeAlias = Array | str | bytes
Batch: TypeAlias = Array | list[Array] | list[str] | list[bytes]

_MAX_KEPT_PACKS = 32
_LOOKUPS_BEFORE_VECTORS = 8
_SAMPLES_TO_MEASURE = 16
_MAX_WINDOW = 256
_MAX_PRIVATE = 1 << 22
"""Processes share the vectors of columns with more samples, and none keeps a plan, which takes 8 bytes a sample."""
_WINDOW_NBYTES = 8 << 20


class SampleReader:
    """Reads the samples of one column from one tree; the samples belong to the caller."""

    def __init__(
        self,
        record: ColumnRecord,
        tree: Tree,
        tensors: TensorStore,
        find_unflushed: FindUnflushed | None = None,
        *,
        commit: str | None = None,
    ) -> None:
        self.commit = commit
        self.record = record
        self.tree = tree
        self.format = record.entry_format
        self._tensors = tensors
        self.reads_unflushed = find_unflushed is not None
        self._entries = EntryReader(tree.store, tensors, find_unflushed)
        self.dtype = np.dtype(np.uint8) if record.is_text else parse_dtype(record.dtype)
        self._is_chunked = self.format.kind is EntryKind.CHUNK and find_unflushed is None
        self._shape = tuple(length or 0 for length in record.shape)
        self._vectors: LeafVectors | None = None
        self._rows: dict[int, Array] = {}
        self._leaf_locations = LeafLocations(self.format, tensors)
        self._plan: GatherPlan | None = None
        self._batches = 0
        self._ahead: ReadAhead | None = None
        self.has_int_keys = tree.format.key_type is KeyType.INT
        self._values_only: LeafVectors | None = None
        self._locate = partial(tensors.locate, row_nbytes=self.format.item_nbytes)  # no cycle: it would keep the hold
        self._count = tree.count
        self._dense_start = tree.dense_start
        self._lookups = 0

    def find_position(self, key: Key) -> int | None:
        """Return the position of a key in key order, or None."""
        if self._dense_start is not None and isinstance(key, int):
            position = key - self._dense_start
            return position if 0 <= position < self._count else None
        return self.tree.position_of(key)

    def measure_present(self, positions: NDArray[np.int64]) -> float:
        """Return the fraction, by bytes, of the chunks behind these positions that is present; 1.0 without chunks."""
        nbytes = self.format.measure(self._load_values(positions))
        digests, owners = self._read_digests(positions)
        if not len(digests):
            return 1.0
        is_here = self._entries.is_present(digests)
        weights = nbytes[owners] / np.bincount(owners, minlength=len(positions))[owners]
        return float((weights * is_here).sum() / weights.sum())

    def list_stored(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the digests `(n, 32)` of the chunks behind these positions, without unflushed ones."""
        return self._entries.drop_unflushed(self.list_chunks(positions))

    def list_chunks(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the digests `(n, 32)` of the chunks behind these positions, in order."""
        if self.format.kind is EntryKind.CHUNK:
            return self._load_values(positions)
        return self._read_digests(positions)[0]

    def read_ahead(self, positions: NDArray[np.int64] | None = None) -> ReadAhead | None:
        """Return a `ReadAhead` for reading `positions` (None: all) in order; None if all samples are present."""
        if not self._count or self.format.kind is EntryKind.INLINE or not self._tensors.is_partial():
            return None
        self._tensors.fetcher.start()
        some = np.unique(np.linspace(0, self._count - 1, _SAMPLES_TO_MEASURE).astype(np.int64))
        values = [np.frombuffer(self.tree.at(position)[1], np.uint8) for position in some.tolist()]
        nbytes = int(self.format.measure(np.stack(values)).mean())
        if positions is None:
            return ReadAhead(self._count, nbytes, lambda indices, goes_on: self.hint(indices, goes_on=goes_on))

        def hint_chosen(indices: NDArray[np.int64], goes_on: bool) -> None:
            chosen = positions[indices]
            is_run = int(chosen[-1]) - int(chosen[0]) == len(chosen) - 1
            self.hint(chosen, goes_on=goes_on and is_run)

        return ReadAhead(len(positions), nbytes, hint_chosen)

    def hint(self, positions: NDArray[np.int64], *, goes_on: bool = False) -> None:
        """Announce that samples at these positions will be read soon; with `goes_on`, those after them too."""
        if self._is_chunked:
            vectors = self._open_vectors()
            vectors.fill(positions)
            self._tensors.hint(vectors.get_locations(positions), goes_on=goes_on)
            return
        digests, _ = self._read_digests(positions)
        if len(digests) and not self.reads_unflushed:
            self._tensors.hint(self._tensors.locate(digests), goes_on=goes_on)

    def read_planned(self, positions: NDArray[np.int64]) -> Array | None:
        """Return `read_batch` by a plan (every leaf node resolved, every chunk in an open raw pack); None without one.

        Positions are as in numpy: negative ones count from the end. Raises `IndexError` if one is out of range.
        """
        if self._plan is None:
            return None
        rows = self._plan.gather(positions)
        if rows is None:  # its packs had to make room for others
            self._plan = None
            return None
        return rows.view(self.dtype).reshape(len(rows), *self._shape)

    def iter_windows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of all samples, in order, as arrays of those to read at once: 8 MiB, or one sample."""
        start = 0
        while start < self._count:
            window = np.arange(start, min(start + _MAX_WINDOW, self._count))
            window = window[: self._count_within(window, _WINDOW_NBYTES)]
            start += len(window)
            yield window

    def _count_within(self, positions: NDArray[np.int64], nbytes: int) -> int:
        """Return how many of these samples, from the first on, take `nbytes` raw bytes together; at least one."""
        if self.format.item_nbytes is not None:
            return max(1, nbytes // max(1, self.format.item_nbytes))
        total = np.cumsum(self.format.measure(self._load_values(positions)))
        return max(1, int(np.searchsorted(total, nbytes, side="right")))

    def read_batch(self, positions: NDArray[np.int64]) -> Batch:
        """Return samples at positions in key order: `(n, *shape)`, or a list if shapes vary or samples are text."""
        values = self._load(positions)
        if self.format.kind is EntryKind.INLINE:
            return self._shape_rows(values)
        if self._is_chunked:
            gathered = self._shape_rows(self._gather(positions))
            self._plan_ahead()
            return gathered
        return self._read_entries([self.format.decode(value.tobytes()) for value in values])

    def read_one(self, position: int) -> Sample:
        """Return the sample at a position in key order."""
        if self._vectors is None and self._lookups < _LOOKUPS_BEFORE_VECTORS:
            self._lookups += 1  # for a few samples, descending the tree is faster
            return self.read_entry(self.tree.at(position)[1])
        vectors = self._open_vectors()
        if self._ahead is not None:
            self._ahead.see(np.array([position], np.int64))
        if self._is_chunked:
            return self._read_located(vectors.locate(position), position)
        if not vectors.is_filled(position):
            vectors.fill(np.array([position], np.int64))
        return self._read_value(vectors, position)

    def read_entry(self, value: bytes) -> Sample:
        """Return the sample behind one tree value."""
        entry = self.format.decode(value)
        return self._build(entry, self._entries.copy([entry])[0])

    def view_entry(self, value: bytes) -> Sample:
        """Return the sample behind one tree value, read-only; not copied if its chunk is raw."""
        entry = self.format.decode(value)
        sample = self._build(entry, self._entries.view(entry))
        if isinstance(sample, np.ndarray):
            sample.flags.writeable = False
        return sample

    def peek_entry(self, value: bytes, max_nbytes: int) -> Sample | None:
        """Return `view_entry`, or None if the sample is larger or not on this machine; fetches nothing."""
        entry = self.format.decode(value)
        if entry.nbytes > max_nbytes:
            return None
        if not self._entries.is_present(list_chunks(self.tree.store, entry).digests).all():
            return None
        return self.view_entry(value)

    def digest_entry(self, value: bytes) -> bytes:
        """Return the digest of the raw bytes of the sample behind a tree value."""
        return digest_entry(self.tree.store, self.format.decode(value))

    def sum_nbytes(self) -> int:
        """Return the number of raw bytes of all samples."""
        if self.format.item_nbytes is not None:
            return self.format.item_nbytes * self.tree.count
        return int(self.format.measure(self._load(np.arange(self._count, dtype=np.int64))).sum())

    def _read_digests(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the digests `(n, 32)` of the chunks behind `positions`, and the index `(n,)` of each one's sample."""
        entries = [self.format.decode(value.tobytes()) for value in self._load_values(positions)]
        digests = [
            entry.payload if entry.kind is EntryKind.CHUNK else list_chunks(self.tree.store, entry).digests.tobytes()
            for entry in entries
        ]
        owners = np.repeat(
            np.arange(len(entries)), np.array([len(mine) // DIGEST_NBYTES for mine in digests], np.int64)
        )
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES), owners

    def _load_values(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the values at positions, `(n, width)`, even if only locations are kept otherwise."""
        if not self._is_chunked:
            return self._load(positions)
        if self._values_only is None:
            self._values_only = self._make_value_vectors()
        self._values_only.fill(positions)
        return self._values_only.values[positions]

    def _read_located(self, location: int, position: int) -> Array:
        rows = self._rows.get(location >> 32)
        if rows is None:
            rows = self._keep_rows(location >> 32)
        if rows is not None:
            sample: Array = rows[location & 0xFFFFFFFF].copy()
            return sample
        try:
            return np.frombuffer(self._tensors.read(location), self.dtype).reshape(self._shape)
        except StalePackError:  # it has moved
            pass
        only: Array = self.read_batch(np.array([position], np.int64))[0]  # type: ignore[assignment]
        return only

    def _read_value(self, vectors: LeafVectors, position: int) -> Sample:
        """Return a sample of any kind; one chunk of a leaf node that is read in order needs no search."""
        value = vectors.values[position].tobytes()
        if self.format.is_fixed or self.reads_unflushed:
            return self.read_entry(value)
        location = self._leaf_locations.find(position, vectors)
        if location is not None:
            try:
                return self._build(self.format.decode(value), self._tensors.read(location))
            except StalePackError:
                self._leaf_locations.forget()
        return self.read_entry(value)

    def _keep_rows(self, number: int) -> Array | None:
        """Keep a pack's rows open as an array `(rows, *shape)`, if it is raw and its rows have the samples' size."""
        if len(self._rows) >= _MAX_KEPT_PACKS:
            self._rows = {}
        try:
            mapped = self._tensors.view_rows(number)
        except StalePackError:
            return None
        if mapped is None or mapped.shape[1] != self.format.item_nbytes:
            return None
        rows: Array = mapped.view(self.dtype).reshape(len(mapped), *self._shape)
        self._rows[number] = rows
        return rows

    def _plan_ahead(self) -> None:
        """Make a plan once all leaf nodes are resolved and all packs are open; try more and more rarely."""
        vectors, nbytes = self._vectors, self.format.item_nbytes
        if self._plan is not None or vectors is None or not vectors.is_whole or nbytes is None:
            return
        self._batches += 1
        is_due = self._batches & (self._batches - 1) == 0  # each try looks at every location
        if not is_due or self._count > _MAX_PRIVATE or self._tensors.cache.is_careful:
            return
        locations = vectors.get_locations(slice(None))
        packs = np.flatnonzero(np.bincount((locations >> ROW_BITS).view(np.int64)))
        self._plan = self._tensors.plan_gather(locations, nbytes, among=packs)

    def _gather(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert self._vectors is not None
        assert self.format.item_nbytes is not None
        try:
            return self._tensors.gather(self._vectors.get_locations(positions), self.format.item_nbytes)
        except StalePackError:  # packs were rewritten since the leaves were resolved
            self._tensors.index.refresh()
            return self._tensors.retry_when_moved(partial(self._gather_resolved, positions, self.format.item_nbytes))

    def _gather_resolved(self, positions: NDArray[np.int64], item_nbytes: int) -> NDArray[np.uint8]:
        """Return what `_gather` does, after the positions were resolved again."""
        if self._vectors is None or self._count <= _MAX_PRIVATE:
            self._vectors = self._make_vectors()
        else:  # the others keep what is right
            self._vectors.forget(positions)
        self._vectors.fill(positions)
        return self._tensors.gather(self._vectors.get_locations(positions), item_nbytes)

    def _load(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Resolve leaf nodes, and return the values at positions, `(n, width)`; width 0 if locations are kept."""
        vectors = self._open_vectors()
        vectors.fill(positions)
        return vectors.values[positions]

    def _open_vectors(self) -> LeafVectors:
        vectors = self._vectors
        if vectors is None:
            vectors = self._vectors = self._make_vectors()
            if not self.reads_unflushed:
                self._ahead = self.read_ahead()
        return vectors

    def _make_vectors(self) -> LeafVectors:
        """Return empty vectors, or those of a large column that the processes of this machine share."""
        if not self._is_chunked:
            return self._make_value_vectors()
        return LeafVectors(self.tree, self._locate, partial(self._share, b"locations"))

    def _make_value_vectors(self) -> LeafVectors:
        return LeafVectors(self.tree, None, partial(self._share, b"values"))

    def _share(self, content: bytes, nbytes: int) -> NDArray[np.uint8] | None:
        """Return the shared vector with this content of the column; None if it is small, or of no commit yet."""
        if self._count <= _MAX_PRIVATE or self.commit is None:
            return None
        column = b"%s %d" % (self.tree.root.hex().encode(), self.format.item_nbytes or 0)
        return self._tensors.share_vector(b"%s %s" % (column, content), nbytes)

    def _read_entries(self, entries: Sequence[Entry]) -> Batch:
        """Return samples that one gather cannot read: text, varying shapes, large tensors, unflushed chunks."""
        samples: list[Any] = list(map(self._build, entries, self._entries.copy(entries)))
        if self.format.is_fixed and not self.record.is_text:
            return np.stack(samples) if samples else np.empty((0, *self._shape), self.dtype)
        return samples

    def _build(self, entry: Entry, data: SampleBuffer) -> Sample:
        """Return the sample whose raw bytes are `data`."""
        if self.record.is_text:
            return decode_text(self.record, data if isinstance(data, bytearray) else data.tobytes())
        return (
            np.frombuffer(data, self.dtype).reshape(entry.shape) if entry.nbytes else np.empty(entry.shape, self.dtype)
        )

    def _shape_rows(self, rows: NDArray[np.uint8]) -> Array:
        if self.format.item_nbytes == 0:
            return np.empty((len(rows), *self._shape), self.dtype)
        return np.ascontiguousarray(rows).reshape(-1).view(self.dtype).reshape(len(rows), *self._shape)
