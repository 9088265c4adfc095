"""Rows that differ."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.trees.rows import mark_differing


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.2, 1])
@pytest.mark.parametrize("shape", [(0, 9), (1, 1), (500, 9), (500, 0)])
def test_rows_that_differ_in_any_byte_are_found(shape: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 256, shape, dtype=np.uint8)
    other = one ^ (random.random(shape) < share).astype(np.uint8)
    assert mark_differing(one, other).tolist() == [a != b for a, b in zip(one.tolist(), other.tolist(), strict=True)]
