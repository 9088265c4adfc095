"""Where the chunks of one leaf node lie: samples that are read one by one, in order, are located together.

For text and samples of varying shape only. Samples of one shape have their locations in `LeafVectors`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import StockroomError
from stockroom.shelves.data.leaf_vectors import LeafVectors
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.store.index.chunk_search import NOWHERE
from stockroom.store.tensor_store import TensorStore


class LeafLocations:
    """The locations of the single chunks in the leaf node that was read last."""

    def __init__(self, entry_format: EntryFormat, tensors: TensorStore) -> None:
        self._format = entry_format
        self._tensors = tensors
        self._leaf: tuple[int, list[int | None]] = 0, []  # in one place, since threads share a reader
        self._next = -1

    def find(self, position: int, vectors: LeafVectors) -> int | None:
        """Return the location of the sample at `position`; None if it is no single chunk, or not read in order."""
        is_next, self._next = position == self._next, position + 1
        start, locations = self._leaf
        if not start <= position < start + len(locations):
            if not is_next:  # locating a whole leaf node for one sample would cost more
                return None
            start, locations = self._leaf = self._locate_leaf(position, vectors)
        return locations[position - start]

    def forget(self) -> None:
        """Locate again: packs have moved."""
        self._leaf = 0, []

    def _locate_leaf(self, position: int, vectors: LeafVectors) -> tuple[int, list[int | None]]:
        start, stop = vectors.get_leaf_span(position)
        values = vectors.values[start:stop]
        located: NDArray[np.uint64] = np.full(len(values), NOWHERE)
        is_chunk = self._format.decode_kinds(values) == EntryKind.CHUNK
        chunks = values[is_chunk]
        try:
            located[is_chunk] = self._tensors.locate(self._format.slice_digests(chunks), self._format.measure(chunks))
        except StockroomError:  # perhaps in samples that were not requested
            located[:] = NOWHERE
        return start, [None if location == NOWHERE else location for location in located.tolist()]
