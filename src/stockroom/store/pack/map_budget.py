"""How much of packs this process keeps mapped: one limit for all its stores, since the system limits its maps.

A map costs address space and an entry in the kernel's list of maps (`vm.max_map_count`), but no open file.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Collection
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from stockroom.file_map import count_maps_allowed
from stockroom.fork_locks import make_fork_lock, make_plain_fork_lock

_PART_OF_MAPS: Final = 4
"""Packs may take a quarter of the maps allowed: views, models and other libraries need maps too."""
_MAX_PACKS: Final = 1 << 14
"""An open pack takes some 3 KB of memory."""
_EVICT_PART: Final = 8


class HoldsPacks(Protocol):
    """A cache of open packs."""

    def count_open(self) -> int:
        """Return how many packs it has open."""
        ...

    def rank_packs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of its open packs, and for each the time of its last use, by the budget's clock."""
        ...

    def evict(self, numbers: NDArray[np.int64]) -> None:
        """Let go of these packs. A reader that is still using one keeps its map."""
        ...


class MapBudget:
    """The number of packs that all caches of this process together keep open; those used longest ago leave first.

    Attributes:
        limit: the most packs open at a time.
        clock: counts the moments at which packs were opened. Uses between two such moments are equally recent.
        lock: guards the open packs of every cache.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clock = 0
        self.lock = make_fork_lock()
        self._caches: weakref.WeakSet[HoldsPacks] = weakref.WeakSet()

    def add(self, cache: HoldsPacks) -> None:
        """Make the packs of `cache` count."""
        with self.lock:
            self._caches.add(cache)

    def make_room(self, count: int) -> None:
        """Evict packs of any cache, unless there is room for `count` more. The caller holds `lock`."""
        make_room(list(self._caches), count, self.limit)

    def evict_half(self) -> bool:
        """Evict half of all packs, since the system refuses more maps; returns whether there were any."""
        with self.lock:
            caches = list(self._caches)
            total = sum(cache.count_open() for cache in caches)
            make_room(caches, 0, total // 2)
            return total > 0


def make_room(caches: Collection[HoldsPacks], count: int, limit: int) -> None:
    """Evict the packs used longest ago, unless these caches have room for `count` more below `limit`.

    An eighth of `limit` leaves at once, so that the cost of an eviction is shared by that many openings.
    """
    total = sum(cache.count_open() for cache in caches)
    excess = total + count - limit
    if excess <= 0 or not total:
        return
    ranked = [(cache, *cache.rank_packs()) for cache in caches]
    leaving = min(max(excess, limit // _EVICT_PART), total)
    used = np.concatenate([times for _, _, times in ranked])
    is_leaving = np.zeros(total, bool)
    is_leaving[np.argpartition(used, leaving - 1)[:leaving]] = True
    start = 0
    for cache, numbers, _ in ranked:
        mine = is_leaving[start : start + len(numbers)]
        start += len(numbers)
        if mine.any():
            cache.evict(numbers[mine])


BUDGET: Final = MapBudget(max(64, min(_MAX_PACKS, count_maps_allowed() // _PART_OF_MAPS)))


class HasManifest(Protocol):
    """An open pack that can map its manifest again."""

    def release_manifest(self) -> None:
        """Unmap the manifest until it is needed again."""
        ...


class KeptManifests:
    """The manifests that open packs keep mapped: at most `max_count`, of `max_nbytes`; the oldest maps leave first."""

    def __init__(self, *, max_count: int, max_nbytes: int) -> None:
        self._max_count = max_count
        self._max_nbytes = max_nbytes
        self._kept: deque[tuple[weakref.ref[HasManifest], int]] = deque()
        self._nbytes = 0
        self._lock = make_plain_fork_lock()

    def add(self, pack: HasManifest, nbytes: int) -> None:
        """Count the manifest that `pack` has just mapped, and release others if need be."""
        with self._lock:
            self._kept.append((weakref.ref(pack), nbytes))
            self._nbytes += nbytes
            while len(self._kept) > self._max_count or (self._nbytes > self._max_nbytes and len(self._kept) > 1):
                oldest, released_nbytes = self._kept.popleft()
                self._nbytes -= released_nbytes
                kept = oldest()
                if kept is not None:
                    kept.release_manifest()
