"""Times two ways of doing one thing, turn by turn, so that whatever else the machine does meets both alike.

Both are warmed up first: nothing is read from a cold page cache, no module is imported on the clock. What a call
returns is kept until the clock has stopped, then handed to `after`, so that closing and deleting are never timed.
"""

from __future__ import annotations

import cProfile
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIN_ROUNDS = 5
WARM_UP_ROUNDS = 2

Call = Callable[[int], object]
"""One piece of work. It is given the number of its round, which both sides share."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that each round took."""

    rounds_s: Sequence[float]

    @property
    def median_s(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds_s)


@dataclass(frozen=True, slots=True)
class Pair:
    """The limit's and the product's times for the same rounds."""

    limit: Times
    product: Times


class Stopwatch:
    """Times calls; with a profiler, the product's calls are profiled too (and slower for it)."""

    def __init__(self, profiler: cProfile.Profile | None = None) -> None:
        self._profiler = profiler

    def compare(
        self, limit: Call, product: Call, *, rounds: int, after: Callable[[object], None] | None = None
    ) -> Pair:
        """Times of both, in alternating order: limit first in even rounds, product first in odd ones."""
        assert rounds >= MIN_ROUNDS
        warm_up = WARM_UP_ROUNDS if rounds > 2 * MIN_ROUNDS else 1
        times: dict[Call, list[float]] = {limit: [], product: []}
        for number in range(-warm_up, rounds):
            for call in (limit, product) if number % 2 == 0 else (product, limit):
                seconds = self._time(call, number, after, profiled=call is product and number >= 0)
                times[call].append(seconds)
        return Pair(Times(times[limit][-rounds:]), Times(times[product][-rounds:]))

    def repeat(self, product: Call, *, rounds: int, after: Callable[[object], None] | None = None) -> Times:
        """Times of the product alone, for targets that are absolute; one round before them is not counted."""
        assert rounds >= MIN_ROUNDS
        return Times([self._time(product, n, after, profiled=n >= 0) for n in range(-1, rounds)][1:])

    def measure(self, work: Callable[[], None]) -> float:
        """Seconds that a part of something else being timed takes."""
        start = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start) / 1e9

    def _time(self, call: Call, number: int, after: Callable[[object], None] | None, *, profiled: bool) -> float:
        profiler = self._profiler if profiled else None
        if profiler is not None:
            profiler.enable()
        start = time.perf_counter_ns()
        result = call(number)
        elapsed = time.perf_counter_ns() - start
        if profiler is not None:
            profiler.disable()
        if after is not None:
            after(result)
        return elapsed / 1e9
