"""Values of every numeric dtype as float64, so that they can be summed and compared."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import TORCH_ONLY
from stockroom.shelves.model.leaf_info import LeafInfo

Reals = NDArray[np.float64]

_OPAQUE: Final = TORCH_ONLY.keys() - {"complex32"}


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
