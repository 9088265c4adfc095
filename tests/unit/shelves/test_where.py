"""Conditions choose samples and run no code."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.errors import InvalidInputError
from stockroom.shelves.where import choose_where

COLUMNS = {"label": np.arange(10) % 4, "split": np.array(["a", "b"] * 5), "train-label": np.arange(10) * 0.5}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("label == 3", [3, 7]),
        ("3 == label", [3, 7]),
        ("label != 0 and split == 'a'", [2, 6]),
        ("label in (1, 2) or not split == 'b'", [0, 1, 2, 4, 5, 6, 8, 9]),
        ("label not in [0, 1, 2]", [3, 7]),
        ("1 <= label < 3", [1, 2, 5, 6, 9]),
        ("`train-label` > 3.9", [8, 9]),
        ("label == `train-label`", [0]),
    ],
)
def test_a_condition_chooses_samples(condition: str, expected: list[int]) -> None:
    assert np.flatnonzero(choose_where(condition, COLUMNS.__getitem__)).tolist() == expected


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "label",
        "label ==",
        "1 == 1",
        "label.shape == 1",
        "label[0] == 1",
        "__import__('os').system('true') == 0",
        "(lambda: label)() == 1",
        "label is None",
        "label == {}",
        "label == 3; 1",
        "label == 3 " + "and label == 3 " * 500,
        "(" * 300 + "label == 3" + ")" * 300,
    ],
)
def test_whatever_else_is_refused(condition: str) -> None:
    with pytest.raises(InvalidInputError, match="condition"):
        choose_where(condition, COLUMNS.__getitem__)
