"""Histograms drawn with block characters, or with plain ones where the terminal's encoding has no blocks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#@"


def draw_bars(counts: Sequence[int]) -> str:
    """One character for each count, as high as it is large; only for 0 a space."""
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
