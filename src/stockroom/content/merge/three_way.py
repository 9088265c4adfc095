"""The three-way rule: the side that changed something wins; what both changed in different ways is in conflict."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeVar

from stockroom.content.merge.conflict import Side

T = TypeVar("T")


def find_side(base: T, ours: T, theirs: T, is_same: Callable[[T, T], bool] = operator.eq) -> Side | None:
    """The side to take of three versions, ours where both are alike; None where both changed in different ways."""
    if is_same(ours, theirs):
        return "ours"
    if is_same(base, ours):
        return "theirs"
    return "ours" if is_same(base, theirs) else None
