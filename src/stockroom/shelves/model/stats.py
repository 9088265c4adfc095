"""Statistics of one tensor of any size, computed piece by piece in float64.

Moments are combined by the method of Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for computing
sample variances, 1979), so that a mean far from zero loses no precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import TORCH_ONLY
from stockroom.errors import InvalidInputError
from stockroom.shelves.model.leaf_info import LeafInfo
from stockroom.shelves.model.state import State

DEFAULT_BINS: Final = 20
MAX_BINS: Final = 1 << 16
_OPAQUE: Final = TORCH_ONLY.keys() - {"complex32"}

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """The number of elements between neighboring `edges`, `(bins + 1,)`; the last bin includes its upper edge."""

    edges: Reals
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TensorStats:
    """Statistics of a tensor's elements.

    `mean`, `std` (of the population), `least`, `greatest` and `histogram` cover the finite elements, and are None if
    there are none. Complex numbers are measured by magnitude.
    """

    count: int
    nan: int
    inf: int
    zeros: int
    mean: float | None
    std: float | None
    least: float | None
    greatest: float | None
    histogram: Histogram | None

    @property
    def zero_fraction(self) -> float:
        """The fraction of all elements that is zero; 0.0 if there are none."""
        return self.zeros / self.count if self.count else 0.0


def iter_stats(
    state: State, names: Sequence[str] | None = None, *, bins: int = DEFAULT_BINS
) -> Iterator[tuple[LeafInfo, TensorStats | None]]:
    """Yield each tensor that `names` select as in `State.load` (None: all), in order, with its statistics.

    These are None if the dtype has no numbers. Python scalars are left out. Raises `LeafNotFoundError`,
    `InvalidInputError`.
    """
    if not 1 <= bins <= MAX_BINS:
        raise InvalidInputError(f"expected 1 to {MAX_BINS} bins, found {bins}")
    for leaf in state.leaves(names):
        if is_measurable(leaf):
            yield leaf, measure(partial(state.iter_pieces, leaf.path), leaf.dtype, bins=bins)
        elif leaf.library != "python":
            yield leaf, None


def is_measurable(leaf: LeafInfo) -> bool:
    """Return whether a leaf is an array or tensor of numbers; torch's packed and sub-byte dtypes are opaque bytes."""
    return leaf.library != "python" and leaf.dtype not in _OPAQUE


def as_reals(values: NDArray[Any], dtype: str) -> Reals:
    """Return each element as float64: complex numbers as magnitudes, dates and durations as counts, NaT as NaN.

    `values` are as `State.iter_pieces` yields them.
    """
    if dtype == "complex32" or values.dtype.kind == "c":
        return np.asarray(np.abs(as_complex(values, dtype)))
    if values.dtype.kind in "mM":
        counts = values.view(np.int64).astype(np.float64)
        counts[np.isnat(values)] = np.nan
        return counts
    return values.astype(np.float64)


def as_complex(values: NDArray[Any], dtype: str) -> NDArray[np.complex128]:
    """Return each element of a complex dtype as complex128."""
    if dtype == "complex32":
        values = values.astype(np.float32).view(np.complex64)[..., 0]
    return values.astype(np.complex128)


def measure(pieces: Callable[[], Iterable[NDArray[Any]]], dtype: str, *, bins: int = DEFAULT_BINS) -> TensorStats:
    """Return the statistics of a tensor; calls `pieces`, which returns flat arrays, twice if there are several."""
    moments = _Moments()
    kept: list[Reals] = []
    for number, piece in enumerate(pieces()):
        values = as_reals(piece, dtype)
        moments.add(values)
        kept = [values] if number == 0 else []
    again = kept or (as_reals(piece, dtype) for piece in pieces())
    finite = moments.finite
    return TensorStats(
        count=moments.count,
        nan=moments.nan,
        inf=moments.count - moments.nan - finite,
        zeros=moments.zeros,
        mean=moments.mean if finite else None,
        std=math.sqrt(moments.squares / finite) if finite else None,
        least=moments.least if finite else None,
        greatest=moments.greatest if finite else None,
        histogram=_count_bins(again, moments.least, moments.greatest, bins=bins) if finite else None,
    )


@dataclass(slots=True)
class _Moments:
    """Running moments of the elements so far; `squares` sums the squared distances from the mean."""

    count: int = 0
    finite: int = 0
    nan: int = 0
    zeros: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    greatest: float = -math.inf

    def add(self, values: Reals) -> None:
        """Add a piece."""
        self.count += len(values)
        self.nan += int(np.isnan(values).sum())
        self.zeros += len(values) - int(np.count_nonzero(values))
        finite = _keep_finite(values)
        if not len(finite):
            return
        self.least = min(self.least, float(finite.min()))
        self.greatest = max(self.greatest, float(finite.max()))
        with np.errstate(over="ignore"):  # a deviation beyond float64 becomes infinite
            mean = float(finite.mean())
            if math.isinf(mean):
                mean = float((finite / len(finite)).sum())
            self._join(len(finite), mean, float(np.square(finite - mean).sum()))

    def _join(self, count: int, mean: float, squares: float) -> None:
        """Combine the moments of another piece with these."""
        if not self.finite:
            self.finite, self.mean, self.squares = count, mean, squares
            return
        part = count / (self.finite + count)
        apart = mean - self.mean
        self.squares += squares + float(np.square(apart)) * self.finite * part
        self.mean = self.mean * (1 - part) + mean * part if math.isinf(apart) else self.mean + apart * part
        self.finite += count


def _keep_finite(values: Reals) -> Reals:
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _count_bins(pieces: Iterable[Reals], least: float, greatest: float, *, bins: int) -> Histogram:
    edges = _choose_edges(least, greatest, bins)
    counts = np.zeros(bins, np.int64)
    for values in pieces:
        indices = np.searchsorted(edges, _keep_finite(values), "right") - 1
        counts += np.bincount(np.minimum(indices, bins - 1), minlength=bins)
    return Histogram(edges, counts)


def _choose_edges(least: float, greatest: float, bins: int) -> Reals:
    """Return equally spaced edges; if all elements are equal, half a unit to both sides, as numpy does."""
    if least == greatest:
        return np.linspace(least - 0.5, greatest + 0.5, bins + 1)
    edges = np.linspace(least / 2, greatest / 2, bins + 1) * 2  # halved: their distance may exceed float64
    edges[0], edges[-1] = least, greatest
    return edges
