"""Comparison of the values of two lists of keys, row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEW = 32  # of so many bytes, one at most may differ for the search by bytes


def mark_differing(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which rows of two arrays of the same shape differ, as `(n,)`."""
    is_other = one != other
    count = int(np.count_nonzero(is_other))
    if count * _FEW > is_other.size:
        many: NDArray[np.bool_] = is_other.any(axis=1)
        return many
    is_different = np.zeros(len(one), np.bool_)
    if count:  # few bytes differ, as after few changes: finding them beats a look at every row
        is_different[np.flatnonzero(is_other) // is_other.shape[1]] = True
    return is_different
