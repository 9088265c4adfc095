"""Rows are copied from wherever they lie in memory."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.store.pack.window import ORIGIN, copy_rows


@pytest.mark.parametrize("row_nbytes", [1, 33, 3072, 16 << 10, 100_001])
def test_rows_of_several_arrays_are_copied_in_the_order_asked_for(row_nbytes: int) -> None:
    rng = np.random.default_rng(row_nbytes)
    arrays = [rng.integers(0, 256, (7, row_nbytes), np.uint8) for _ in range(5)]
    chosen = rng.integers(0, (5, 7), (40, 2))
    offsets = np.array([arrays[a].ctypes.data + r * row_nbytes - ORIGIN for a, r in chosen.tolist()])
    copied = copy_rows(offsets, row_nbytes)
    assert copied.flags.writeable
    assert (copied == np.stack([arrays[a][r] for a, r in chosen.tolist()])).all()


def test_no_rows_are_an_empty_array() -> None:
    assert copy_rows(np.empty(0, np.int64), 3072).shape == (0, 3072)
    assert copy_rows(np.empty(0, np.int64), 1 << 20).shape == (0, 1 << 20)
