"""Lost chunks: those of damaged and of missing packs, and which pack each was in."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import UnreadableError
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.verify import PackFindings


class LostChunks:
    """The chunks that damaged or missing packs make unreadable."""

    def __init__(self) -> None:
        self._bad: dict[str, frozenset[bytes]] = {}
        self._unknown: set[str] = set()
        self._numbers: dict[int, str] = {}
        self._missing: set[int] = set()
        self._unchecked: dict[str, UnreadableError] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no pack lost anything."""
        return not (self._bad or self._unknown or self._missing)

    def add(self, pack: str, findings: PackFindings) -> None:
        """Add the findings about a pack."""
        if findings.unchecked:
            first = findings.unchecked[0]
            self._unchecked[pack] = UnreadableError(first.why, where=pack, errno=getattr(errno, first.errno, None))
        if findings.bad is None:
            if findings.damage:
                self._unknown.add(pack)
        elif len(findings.bad):
            self._bad[pack] = frozenset(digest.tobytes() for digest in findings.bad)

    def number(self, pack: str, number: int, *, is_missing: bool) -> None:
        """Set the number of a pack in the catalog, which may be missing on disk."""
        self._numbers[number] = pack
        if is_missing:
            self._missing.add(number)

    @property
    def unchecked(self) -> dict[int, UnreadableError]:
        """The packs that could not be read, in part or at all, by number, and why."""
        return {number: self._unchecked[pack] for number, pack in self._numbers.items() if pack in self._unchecked}

    def find(self, tensors: TensorStore, digests: NDArray[np.uint8]) -> tuple[set[str], NDArray[np.bool_]]:
        """Return the packs that lost any of these chunks `(n, 32)`, and `(n,)` whether each has no whole copy left.

        A copy that could not be checked may be whole, and counts.
        """
        wanted = [digest.tobytes() for digest in digests.reshape(-1, DIGEST_NBYTES)]
        is_whole = np.zeros(len(wanted), bool)
        packs: list[set[str]] = [set() for _ in wanted]
        for positions, locations in tensors.iter_copies(digests, skip_unreadable=True):
            for position, number in zip(positions.tolist(), (locations >> ROW_BITS).tolist(), strict=True):
                pack = self._numbers.get(number, "")
                if wanted[position] in self._bad.get(pack, ()):
                    packs[position].add(pack)
                elif pack not in self._unknown:
                    is_whole[position] = True
        for positions, candidates in tensors.index.iter_candidates(digests):
            for position, number in zip(positions.tolist(), (candidates >> ROW_BITS).tolist(), strict=True):
                pack = self._numbers.get(number, "")
                if number in self._missing or pack in self._unknown or wanted[position] in self._bad.get(pack, ()):
                    packs[position].add(pack)
                elif pack in self._unchecked:
                    is_whole[position] = True
        lost = ~is_whole
        return {pack for position in np.flatnonzero(lost).tolist() for pack in packs[position]}, lost
