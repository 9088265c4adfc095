"""Histograms and curves in one line of text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN: Final = " .:-=+*#@"
"""The same, for terminals whose encoding has no blocks."""

_BARS: Final = _BLOCKS[1:]


def draw_bars(counts: Sequence[int]) -> str:
    """Return one character for each count, with a height in proportion; a space only for 0."""
    top = max(counts, default=0)
    ramp = _BLOCKS if _can_draw_blocks() else _PLAIN
    steps = len(ramp) - 1
    return "".join(ramp[-(-count * steps // top) if count else 0] for count in counts)


def _can_draw_blocks() -> bool:
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def draw_sparkline(values: NDArray[np.float64], width: int, *, low: float, high: float) -> str:
    """Return at most `width` characters, each a mean of values between `low` and `high`; a gap if none is finite."""
    groups = np.array_split(values, min(width, len(values))) if len(values) else []
    return "".join(_draw(group[np.isfinite(group)], low, high) for group in groups)


def _draw(values: NDArray[np.float64], low: float, high: float) -> str:
    if not len(values):
        return " "
    if high <= low:
        return _BARS[0]
    share = float(np.mean((values / 2 - low / 2) / (high / 2 - low / 2)))  # halved, so that nothing overflows
    return _BARS[min(int(max(share, 0.0) * len(_BARS)), len(_BARS) - 1)]
