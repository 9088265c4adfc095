"""The three-way rule: a change on one side wins; different changes on both sides are a conflict."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeVar

from stockroom.content.merge.conflict import Side

T = TypeVar("T")


def find_side(base: T, ours: T, theirs: T, is_same: Callable[[T, T], bool] = operator.eq) -> Side | None:
    """Return the side to take of three versions, ours if both are alike; None if both changed in different ways."""
    if is_same(ours, theirs):
        return "ours"
    if is_same(base, ours):
        return "theirs"
    return "ours" if is_same(base, theirs) else None
