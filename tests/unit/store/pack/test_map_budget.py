"""Packs leave in groups, the ones used longest ago first, whichever cache they are in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockroom.store.pack.map_budget import KeptManifests, MapBudget


class Numbers:
    """A cache of numbers instead of packs."""

    def __init__(self, budget: MapBudget) -> None:
        self.used: dict[int, int] = {}
        self.evictions = 0
        self.budget = budget
        budget.add(self)

    def use(self, number: int) -> None:
        if number not in self.used:
            self.budget.clock += 1
            self.budget.make_room(1)
        self.used[number] = self.budget.clock

    def count_open(self) -> int:
        return len(self.used)

    def rank_packs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.array(list(self.used), np.int64), np.array(list(self.used.values()), np.int64)

    def evict(self, numbers: NDArray[np.int64]) -> None:
        self.evictions += 1
        for number in numbers.tolist():
            del self.used[number]


def test_the_number_of_evictions_follows_the_number_of_openings_over_an_eighth_of_the_limit() -> None:
    budget = MapBudget(800)
    first, second = Numbers(budget), Numbers(budget)
    for number in range(5000):
        first.use(number)
        second.use(number)
        first.use(0)  # always among the last
        assert first.count_open() + second.count_open() <= 800
    assert first.evictions + second.evictions <= 2 * 10_000 / 100
    assert 0 in first.used
    assert set(range(4700, 5000)) <= first.used.keys()
    assert set(range(4700, 5000)) <= second.used.keys()


def test_a_cache_that_is_no_longer_used_makes_room_for_the_others() -> None:
    budget = MapBudget(80)
    idle, busy = Numbers(budget), Numbers(budget)
    for number in range(70):
        idle.use(number)
    for number in range(80):
        busy.use(number)
    assert (idle.count_open(), busy.count_open()) == (0, 80)


def test_when_maps_run_out_half_of_the_packs_leave_until_none_is_left() -> None:
    budget = MapBudget(80)
    cache = Numbers(budget)
    for number in range(40):
        cache.use(number)
    assert budget.evict_half()
    assert sorted(cache.used) == list(range(20, 40))
    left = 20
    while budget.evict_half():
        assert cache.count_open() < left
        left = cache.count_open()
    assert left == 0


def test_only_so_many_manifests_stay_mapped() -> None:
    class Lean:
        released = False

        def release_manifest(self) -> None:
            self.released = True

    kept = KeptManifests(max_count=3, max_nbytes=100)
    packs = [Lean() for _ in range(6)]
    for pack in packs[:4]:
        kept.add(pack, 10)
    assert [pack.released for pack in packs] == [True, False, False, False, False, False]
    kept.add(packs[4], 95)
    assert [pack.released for pack in packs] == [True, True, True, True, False, False]
    kept.add(packs[5], 200)
    assert not packs[5].released
