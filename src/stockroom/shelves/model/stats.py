"""Statistics of one tensor, however large: gone through piece by piece, summed in float64.

Moments are joined piece by piece as Chan, Golub and LeVeque do (Updating formulae and a pairwise algorithm for
computing sample variances, 1979), so that a mean far from zero costs no precision.
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
    """How many elements fall between neighbouring `edges`, `(bins + 1,)`; the last bin has its upper edge too."""

    edges: Reals
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TensorStats:
    """What the elements of a tensor are like.

    `mean`, `std` (of the population), `least`, `greatest` and `histogram` are of the finite elements: None where there
    are none. Of complex numbers the magnitude is measured.
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
        """The part of all elements that is zero; 0.0 where there are none."""
        return self.zeros / self.count if self.count else 0.0


def iter_stats(
    state: State, names: Sequence[str] | None = None, *, bins: int = DEFAULT_BINS
) -> Iterator[tuple[LeafInfo, TensorStats | None]]:
    """The statistics of each tensor that `names` name as in `State.load` (None: all), in order.

    None where a tensor's dtype has no numbers; Python's own scalars are left out. Raises `LeafNotFoundError`.
    """
    if not 1 <= bins <= MAX_BINS:
        raise InvalidInputError(f"expected from 1 to {MAX_BINS} bins, found {bins}")
    for leaf in state.leaves(names):
        if is_measurable(leaf):
            yield leaf, measure(partial(state.iter_pieces, leaf.path), leaf.dtype, bins=bins)
        elif leaf.library != "python":
            yield leaf, None


def is_measurable(leaf: LeafInfo) -> bool:
    """Whether a leaf is an array or tensor of numbers; of torch's packed and sub-byte dtypes only bytes are known."""
    return leaf.library != "python" and leaf.dtype not in _OPAQUE


def as_reals(values: NDArray[Any], dtype: str) -> Reals:
    """Each element as float64: of complex numbers the magnitude, of dates and durations the count, NaT as NaN.

    `values` come as `State.iter_pieces` gives them.
    """
    if dtype == "complex32" or values.dtype.kind == "c":
        return np.asarray(np.abs(as_complex(values, dtype)))
    if values.dtype.kind in "mM":
        counts = values.view(np.int64).astype(np.float64)
        counts[np.isnat(values)] = np.nan
        return counts
    return values.astype(np.float64)


def as_complex(values: NDArray[Any], dtype: str) -> NDArray[np.complex128]:
    """Each element of a complex dtype as complex128."""
    if dtype == "complex32":
        values = values.astype(np.float32).view(np.complex64)[..., 0]
    return values.astype(np.complex128)


def measure(pieces: Callable[[], Iterable[NDArray[Any]]], dtype: str, *, bins: int = DEFAULT_BINS) -> TensorStats:
    """The statistics of a tensor whose `pieces`, flat arrays, are called for twice if there are several."""
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
    """What is known of the elements so far; `squares` sums those of the distances from the mean."""

    count: int = 0
    finite: int = 0
    nan: int = 0
    zeros: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    greatest: float = -math.inf

    def add(self, values: Reals) -> None:
        """Take a piece in."""
        self.count += len(values)
        self.nan += int(np.isnan(values).sum())
        self.zeros += len(values) - int(np.count_nonzero(values))
        finite = _keep_finite(values)
        if not len(finite):
            return
        self.least = min(self.least, float(finite.min()))
        self.greatest = max(self.greatest, float(finite.max()))
        with np.errstate(over="ignore"):  # beyond float64 a deviation is infinite
            mean = float(finite.mean())
            if math.isinf(mean):
                mean = float((finite / len(finite)).sum())
            self._join(len(finite), mean, float(np.square(finite - mean).sum()))

    def _join(self, count: int, mean: float, squares: float) -> None:
        """Join the moments of another piece with these."""
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
        places = np.searchsorted(edges, _keep_finite(values), "right") - 1
        counts += np.bincount(np.minimum(places, bins - 1), minlength=bins)
    return Histogram(edges, counts)


def _choose_edges(least: float, greatest: float, bins: int) -> Reals:
    """Edges at equal distances; of elements that are all alike half a unit to both sides, as numpy has them."""
    if least == greatest:
        return np.linspace(least - 0.5, greatest + 0.5, bins + 1)
    edges = np.linspace(least / 2, greatest / 2, bins + 1) * 2  # halved: their distance may be beyond float64
    edges[0], edges[-1] = least, greatest
    return edges
