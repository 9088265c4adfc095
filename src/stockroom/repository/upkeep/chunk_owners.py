"""The chunks and metadata objects that several parts of a repository refer to, each with the parts it belongs to.

Memory grows with the chunks, not the parts: 8 bytes for each row of a pack that is referred to, and a few words for
each object. Reads the manifests of packs, not their samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest
from stockroom.repository.repository import Repository
from stockroom.store.index.chunk_search import iter_by_pack
from stockroom.store.pack.pack import Pack

NOBODY: Final = -1
SEVERAL: Final = -2


@dataclass(slots=True)
class Tally:
    """Bytes of chunks and objects, each counted once.

    Attributes:
        chunks: how many chunks.
        chunk_nbytes: their raw bytes.
        packed_nbytes: their share of the packs on disk; approximate for encoded packs.
        metadata_nbytes: tree nodes, records and lists, as stored on disk.
    """

    chunks: int = 0
    chunk_nbytes: int = 0
    packed_nbytes: int = 0
    metadata_nbytes: int = 0

    @property
    def stored_nbytes(self) -> int:
        """Bytes on disk, in packs and metadata."""
        return self.packed_nbytes + self.metadata_nbytes

    def add_chunks(self, chunks: int, nbytes: int, packed_nbytes: int) -> None:
        """Count some chunks of one pack."""
        self.chunks += chunks
        self.chunk_nbytes += nbytes
        self.packed_nbytes += packed_nbytes


class Ledger:
    """Tallies of parts. Parts are numbers from 0, entered one after the other, each as a whole.

    Attributes:
        all: the tally of each part.
        new: the share of it that no earlier part refers to.
    """

    def __init__(self, repository: Repository) -> None:
        self.all: defaultdict[int, Tally] = defaultdict(Tally)
        self.new: defaultdict[int, Tally] = defaultdict(Tally)
        self._objects = repository.objects
        self._tensors = repository.tensors
        self._packs: dict[int, PackRows] = {}
        self._owners: dict[bytes, _Owner] = {}
        self._part = NOBODY

    def open_part(self, part: int) -> None:
        """Enter all that follows for `part`."""
        self._part = part

    def add_objects(self, digests: Sequence[bytes]) -> None:
        """Enter metadata objects."""
        unknown = [ObjectDigest(digest) for digest in digests if digest not in self._owners]
        sizes = [len(value) for value in self._objects.get_encoded(unknown)]
        for digest, nbytes in zip(unknown, sizes, strict=True):
            self._owners[digest] = _Owner(NOBODY, NOBODY, nbytes)
        for owner in [self._owners[digest] for digest in digests]:
            if owner.sole == NOBODY:
                self.new[self._part].metadata_nbytes += owner.nbytes
            if owner.last != self._part:
                self.all[self._part].metadata_nbytes += owner.nbytes
            owner.sole = self._part if owner.sole in (NOBODY, self._part) else SEVERAL
            owner.last = self._part

    def add_chunks(self, digests: NDArray[np.uint8], _: object) -> None:
        """Enter chunks `(n, 32)`. Raises `LostChunksError` if one is in no pack."""
        locations = np.unique(self._tensors.locate(digests))
        for number, rows, _ in iter_by_pack(locations):
            pack = self._packs.get(number)
            if pack is None:
                pack = self._packs[number] = PackRows(self._tensors.cache.get(number))
            pack.enter(rows, self._part, found=self.all[self._part], new=self.new[self._part])

    def measure_own(self) -> defaultdict[int, Tally]:
        """Return a tally for each part of the things that only it refers to."""
        own: defaultdict[int, Tally] = defaultdict(Tally)
        for pack in self._packs.values():
            pack.count_own(own)
        for owner in self._owners.values():
            if owner.sole != SEVERAL:
                own[owner.sole].metadata_nbytes += owner.nbytes
        return own

    def measure_all(self) -> Tally:
        """Return the tally of all parts together."""
        total = Tally()
        for tally in self.new.values():
            total.add_chunks(tally.chunks, tally.chunk_nbytes, tally.packed_nbytes)
            total.metadata_nbytes += tally.metadata_nbytes
        return total


@dataclass(slots=True)
class _Owner:
    """The only part that has an object, the last part that entered it, and its bytes on disk."""

    sole: int
    last: int
    nbytes: int


class PackRows:
    """The rows of one pack: for each the only part that has it, and the last part that entered it."""

    def __init__(self, pack: Pack) -> None:
        manifest = pack.manifest
        self._lengths = manifest.lengths
        self._row_nbytes = 0 if manifest.layout.is_ragged else manifest.layout.unit_nbytes
        raw_nbytes = self._measure(np.arange(manifest.rows))
        self._ratio = manifest.shard_nbytes / raw_nbytes if raw_nbytes else 0.0
        self._sole = np.full(manifest.rows, NOBODY, np.int32)
        self._last = np.full(manifest.rows, NOBODY, np.int32)

    def enter(self, rows: NDArray[np.int64], part: int, *, found: Tally, new: Tally) -> None:
        """Enter distinct rows for `part`; count those it did not have, and those no part had."""
        self._count(rows[self._last[rows] != part], found)
        before = self._sole[rows]
        self._count(rows[before == NOBODY], new)
        self._sole[rows] = np.where((before == NOBODY) | (before == part), part, SEVERAL)
        self._last[rows] = part

    def count_own(self, tallies: defaultdict[int, Tally]) -> None:
        """Count the rows that only one part has, for that part."""
        owned = np.flatnonzero(self._sole >= 0)
        order = owned[np.argsort(self._sole[owned], kind="stable")]
        parts, starts = np.unique(self._sole[order], return_index=True)
        for part, rows in zip(parts.tolist(), np.split(order, starts[1:]), strict=True) if len(order) else ():
            self._count(rows, tallies[part])

    def _count(self, rows: NDArray[np.int64], tally: Tally) -> None:
        nbytes = self._measure(rows)
        tally.add_chunks(len(rows), nbytes, round(nbytes * self._ratio))

    def _measure(self, rows: NDArray[np.int64]) -> int:
        return self._row_nbytes * len(rows) if self._lengths is None else int(self._lengths[rows].sum())
