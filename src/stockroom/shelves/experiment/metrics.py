"""Metrics: series of numbers by step. They are stored in the trees, so every clone has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.series import make_series_record
from stockroom.content.snapshot import EXPERIMENT, METRIC, Snapshot, name_path
from stockroom.digest import ObjectDigest
from stockroom.errors import MalformedRecordError, NotFoundError, ValueNotFoundError
from stockroom.shelves.pin import Shelf
from stockroom.trees import Tree, iter_range

MetricChoice: TypeAlias = Literal["last", "min", "max", "best"]
METRIC_CHOICES: Final[tuple[MetricChoice, ...]] = ("last", "min", "max", "best")
"""The ways to show a series as one number in a table."""

LOW_IS_GOOD: Final = ("loss", "error", "perplexity", "mae", "mse", "rmse")
"""Words in the names of metrics whose least value is the best."""


class Series(NamedTuple):
    """One metric: `steps` `(n,)` int64, ascending, and their `values` `(n,)` float64."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class MetricSummary:
    """A summary of one series for tables. It reads one leaf node, except that `min` and `max` read the whole series."""

    tree: Tree

    @property
    def series(self) -> Series:
        """The whole series."""
        return read_series(self.tree)

    @property
    def count(self) -> int:
        """The number of points."""
        return self.tree.count

    @property
    def last_step(self) -> int | None:
        """The greatest step; None if the series is empty."""
        return self._last[0]

    @property
    def last(self) -> float:
        """The value at the greatest step; NaN if the series is empty."""
        return self._last[1]

    @cached_property
    def min(self) -> float:
        """The least value except NaN; NaN if there is no other."""
        return self._reduce(np.fmin)

    @cached_property
    def max(self) -> float:
        """The greatest value except NaN; NaN if there is no other."""
        return self._reduce(np.fmax)

    def pick(self, choice: MetricChoice, name: str) -> float:
        """Return one value of the series; `best` is the choice of `choose_best_end` for `name`."""
        chosen = choose_best_end(name) if choice == "best" else choice
        return self.last if chosen == "last" else self.min if chosen == "min" else self.max

    @cached_property
    def _last(self) -> tuple[int | None, float]:
        if not self.tree.count:
            return None, math.nan
        step, value = self.tree.at(self.tree.count - 1)
        return int(step), float(np.frombuffer(value, "<f8")[0])

    def _reduce(self, ufunc: np.ufunc) -> float:
        return float(ufunc.reduce(self.series.values, initial=math.nan))


class Metrics(Shelf[Series]):
    """The metrics of a commit or stage by name; `del` removes one while writing."""

    _shelf = METRIC
    _noun = "metric"
    _not_found = ValueNotFoundError

    def __getitem__(self, name: str) -> Series:
        return read_series(self._open(name))

    def summary(self, name: str) -> MetricSummary:
        """Return the number of points, and the last, least and greatest value; each is read on first use."""
        return MetricSummary(self._open(name))

    def _open(self, name: object) -> Tree:
        content = self._pin.content
        digest = content.find_digest(name_path(METRIC, name)) if isinstance(name, str) else None
        if digest is None:
            raise self._missing(name)
        return open_series(content, digest)

    def _missing(self, name: object) -> NotFoundError:
        if isinstance(name, str) and self._pin.source.has_path(name_path(EXPERIMENT, name)):
            return ValueNotFoundError(f"no metric {name!r} here; {name!r} is a value: use stock.experiment[{name!r}]")
        return super()._missing(name)


def open_series(snapshot: Snapshot, digest: ObjectDigest) -> Tree:
    """Return the tree of a series from its record's digest; raises `MalformedRecordError` for another record."""
    record = snapshot.read_column(digest)
    if record.schema != make_series_record().schema:
        raise MalformedRecordError(
            f"record {digest.hex()[:16]}: expected a series of float64, found {record.dtype}; run `stock fsck`"
        )
    return snapshot.open_tree(record)


def read_series(tree: Tree) -> Series:
    """Return all points of a series, in arrays that belong to the caller."""
    steps, values = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    for keys, rows in iter_range(tree):
        steps.append(np.asarray(keys, np.int64))
        values.append(np.ascontiguousarray(rows).view("<f8").reshape(-1))
    return Series(np.concatenate(steps), np.concatenate(values))


def choose_best_end(name: str) -> Literal["min", "max"]:
    """Return which end of a metric is best, judged by its name: `min` for losses and errors, otherwise `max`."""
    lowered = name.lower()
    return "min" if any(word in lowered for word in LOW_IS_GOOD) else "max"
