"""One line of the table: what was done, what the limit and the product took, and whether that reaches the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timing import Pair

SECONDS, BYTES, RATE, COUNT = "s", "bytes", "/s", ""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure beside its target. `limit`, `product` are in `unit`; `ratio` is the product's rate over the limit's.

    `at_least_ratio` bounds the ratio; `at_most`, `at_least` bound the product's own figure. One is given at most.
    """

    work: str
    unit: str
    product: float
    limit: float | None = None
    at_least_ratio: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    rounds: int = 1

    @property
    def ratio(self) -> float | None:
        """How many times the limit's rate the product reaches: 1 is as fast, 0.5 takes twice as long."""
        return None if self.limit is None else self.limit / self.product if self.product else math.inf

    @property
    def is_reached(self) -> bool:
        """Whether the target is met."""
        if self.at_least_ratio is not None:
            return self.ratio is not None and self.ratio >= self.at_least_ratio
        if self.at_most is None and self.at_least is None:
            return True  # a row that only informs
        if self.at_most is not None:
            return self.product <= self.at_most
        return self.at_least is not None and self.product >= self.at_least

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least_ratio is not None:
            return f"≥ {self.at_least_ratio:g}x"
        bound, sign = (self.at_most, "≤") if self.at_most is not None else (self.at_least, "≥")
        return "-" if bound is None else f"{sign} {format_figure(bound, self.unit)}"


def compare_rates(work: str, pair: Pair, *, at_least_ratio: float) -> Row:
    """A row whose target is a share of the limit's rate."""
    rounds = len(pair.product.rounds_s)
    limit_s, product_s = pair.limit.median_s, pair.product.median_s
    return Row(work, SECONDS, product_s, limit=limit_s, at_least_ratio=at_least_ratio, rounds=rounds)


def format_figure(value: float, unit: str) -> str:
    """A figure as people read it: three digits and a fitting unit."""
    if unit == SECONDS:
        scale, name = next((s, n) for s, n in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if value >= s or n == "µs")
        return f"{_round(value / scale)} {name}"
    if unit == BYTES:
        scale, name = next((s, n) for s, n in ((2**20, "MiB"), (2**10, "KiB"), (1, "B")) if value >= s or n == "B")
        return f"{_round(value / scale)} {name}"
    return f"{value:,.0f}{unit}" if unit == RATE else f"{_round(value)} {unit}".rstrip()


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
