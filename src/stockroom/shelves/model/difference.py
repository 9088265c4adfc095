"""Compares two states leaf by leaf, and measures by how much tensors changed; never reads leaves with equal digests.

Tensors are compared side by side, piece by piece, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import StridedLeaf
from stockroom.shelves.model.leaf_info import LeafInfo
from stockroom.shelves.model.state import State
from stockroom.shelves.model.stats import Reals, as_complex, as_reals, is_measurable

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """How far a tensor moved.

    `changed` of the `count` elements have another value; NaN equals NaN. `norm`, the L2 norm of the difference, and
    `max_abs` are over the elements that are finite on both sides. `relative_norm` is `norm` divided by the norm of the
    old ones of these elements, None if that is 0 and `norm` is not. `nan_*` and `inf_*` count the elements that are not
    finite.
    """

    count: int
    changed: int
    norm: float
    relative_norm: float | None
    max_abs: float
    nan_old: int
    nan_new: int
    inf_old: int
    inf_new: int


@dataclass(frozen=True, slots=True)
class LeafDifference:
    """One leaf that differs.

    `kind` is `dtype` or `shape` if those differ, so that values cannot be compared, and otherwise `changed`.
    `difference` measures a tensor's change, None if its dtype has no numbers. `values` are a Python scalar's old and
    new value.
    """

    path: str
    kind: Literal["added", "removed", "changed", "dtype", "shape"]
    old: LeafInfo | None
    new: LeafInfo | None
    difference: TensorDifference | None = None
    values: tuple[Any, Any] | None = None


def iter_differences(old: State | None, new: State) -> Iterator[LeafDifference]:
    """Yield the leaves that differ, in the order of `new`, then removed ones; reads each leaf in pieces, as it comes.

    Without an old state every leaf is added.
    """
    before = {} if old is None else {leaf.path: leaf for leaf in old.leaves()}
    for leaf in new.leaves():
        other = before.pop(leaf.path, None)
        if old is None or other is None:
            yield LeafDifference(leaf.path, "added", None, leaf)
        elif _identify(other) != _identify(leaf):
            yield _compare(old, new, other, leaf)
        elif _find_view(old, leaf.path) != _find_view(new, leaf.path):
            found = _compare(old, new, other, leaf)
            if found.difference is None or found.difference.changed:
                yield found
    for leaf in before.values():
        yield LeafDifference(leaf.path, "removed", leaf, None)


def _identify(leaf: LeafInfo) -> tuple[object, ...]:
    """Return a tuple that is equal for leaves of equal value, apart from their layout in memory."""
    return leaf.dtype, leaf.library == "python", leaf.shape, leaf.digest


def _find_view(state: State, path: str) -> tuple[object, ...] | None:
    """Return the layout of a strided leaf in its memory, which the digest does not cover; None for other leaves."""
    leaf = state.get_leaf(path)
    return (leaf.strides, leaf.offset) if isinstance(leaf, StridedLeaf) else None


def _compare(old_state: State, new_state: State, old: LeafInfo, new: LeafInfo) -> LeafDifference:
    path = new.path
    if _identify(old)[:2] != _identify(new)[:2]:
        return LeafDifference(path, "dtype", old, new)
    if old.shape != new.shape:
        return LeafDifference(path, "shape", old, new)
    if new.library == "python":
        return LeafDifference(path, "changed", old, new, values=(old_state.read(path), new_state.read(path)))
    if not is_measurable(new):
        return LeafDifference(path, "changed", old, new)
    pieces = old_state.iter_pieces(path), new_state.iter_pieces(path)
    return LeafDifference(path, "changed", old, new, measure_difference(*pieces, new.dtype))


def measure_difference(old: Iterable[Array], new: Iterable[Array], dtype: str) -> TensorDifference:
    """Return the difference of two tensors of `dtype`, given in pieces as `State.iter_pieces` yields them."""
    sums = _Sums()
    for before, after in _iter_pairs(iter(old), iter(new)):
        sums.add(before, after, dtype)
    relative = 0.0 if sums.norm == 0 else sums.norm / sums.old_norm if sums.old_norm else None
    return TensorDifference(
        sums.count,
        sums.changed,
        sums.norm,
        relative,
        sums.max_abs,
        sums.nan_old,
        sums.nan_new,
        sums.inf_old,
        sums.inf_new,
    )


@dataclass(slots=True)
class _Sums:
    """Running sums over the elements compared so far."""

    count: int = 0
    changed: int = 0
    norm: float = 0.0
    old_norm: float = 0.0
    max_abs: float = 0.0
    nan_old: int = 0
    nan_new: int = 0
    inf_old: int = 0
    inf_new: int = 0

    def add(self, old: Array, new: Array, dtype: str) -> None:
        """Add two pieces of one length."""
        before, after = as_reals(old, dtype), as_reals(new, dtype)
        nan_before, nan_after = np.isnan(before), np.isnan(after)
        self.nan_old += int(nan_before.sum())
        self.nan_new += int(nan_after.sum())
        self.inf_old += int(np.isinf(before).sum())
        self.inf_new += int(np.isinf(after).sum())
        self.count += len(before)
        self.changed += int((_differ(old, new) & ~(nan_before & nan_after)).sum())
        finite = np.isfinite(before) & np.isfinite(after)
        distance = _measure_distance(old[finite], new[finite], dtype)
        self.norm = math.hypot(self.norm, _measure_norm(distance))
        self.old_norm = math.hypot(self.old_norm, _measure_norm(before[finite]))
        self.max_abs = max(self.max_abs, float(distance.max(initial=0.0)))


def _differ(old: Array, new: Array) -> NDArray[np.bool_]:
    """Return a mask of the elements that differ; an element may consist of several values on axis 1."""
    with np.errstate(invalid="ignore"):  # some dtypes warn about NaN
        differ = np.asarray(old != new)
    return np.asarray(differ.any(axis=1)) if differ.ndim > 1 else differ


def _measure_distance(old: Array, new: Array, dtype: str) -> Reals:
    """Return the magnitude of each difference; for integers it is exact until rounded to float64, also beyond 2**53."""
    if dtype == "complex32" or old.dtype.kind == "c":
        with np.errstate(over="ignore"):
            return np.abs(as_complex(new, dtype) - as_complex(old, dtype))
    if old.dtype.kind in "mM":
        old, new = old.view(np.int64), new.view(np.int64)
    if old.dtype.kind in "iu":
        high, low = np.maximum(old, new), np.minimum(old, new)
        return (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.abs(as_reals(new, dtype) - as_reals(old, dtype))


def _measure_norm(values: Reals) -> float:
    """Return the L2 norm, scaled so that no square overflows float64."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0 or math.isinf(largest):
        return largest
    return largest * math.sqrt(float(np.square(values / largest).sum()))


def _iter_pairs(old: Iterator[Array], new: Iterator[Array]) -> Iterator[tuple[Array, Array]]:
    """Yield pieces of equal length from both sides, however the sides are cut."""
    before, after = next(old, None), next(new, None)
    while before is not None and after is not None:
        count = min(len(before), len(after))
        yield before[:count], after[:count]
        before = before[count:] if count < len(before) else next(old, None)
        after = after[count:] if count < len(after) else next(new, None)
