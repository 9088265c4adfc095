"""Curves in one line of text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stockroom.cli.render.bars import draw_sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 10, ""),
        ([0.0, 1, 2, 3, 4, 5, 6, 7], 10, "▁▂▃▄▅▆▇█"),
        ([0.0, 0, 7, 7], 2, "▁█"),
        ([0.0, math.nan, 7, math.inf], 10, "▁ █ "),
        ([math.nan, 7.0, math.nan, math.nan], 2, "█ "),
        ([3.5], 1, "▅"),
    ],
)
def test_each_character_is_the_mean_of_neighbours_or_a_gap(values: list[float], width: int, line: str) -> None:
    assert draw_sparkline(np.array(values), width, low=0, high=7) == line


def test_a_flat_curve_and_one_of_the_greatest_floats_are_drawn() -> None:
    greatest = np.finfo(np.float64).max
    assert draw_sparkline(np.array([5.0, 5.0]), 10, low=5, high=5) == "▁▁"
    assert draw_sparkline(np.array([-greatest, 0, greatest]), 10, low=-greatest, high=greatest) == "▁▅█"
    assert draw_sparkline(np.full(9, greatest), 3, low=-greatest, high=greatest) == "███"
