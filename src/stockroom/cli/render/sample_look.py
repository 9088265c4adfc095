"""Samples as a person looks at them: pictures in colour, curves, one line of text."""

from __future__ import annotations

import shutil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.cli.render.picture import find_pixels, iter_picture_lines
from stockroom.cli.render.sample import Sample
from stockroom.cli.render.sparkline import draw_sparkline

_PROMPT_LINES: Final = 8
"""Lines of the terminal that are left to what stands above a picture."""


def draw_look(sample: Sample, *, columns: int | None = None, lines: int | None = None) -> list[str]:
    """A picture as lines with codes for colours, as large as it is or as the terminal; nothing for what is none."""
    pixels = find_pixels(sample)
    if pixels is None:
        return []
    terminal = shutil.get_terminal_size()
    wide = terminal.columns if columns is None else columns
    high = max(terminal.lines - _PROMPT_LINES, 4) if lines is None else lines
    return list(iter_picture_lines(pixels, columns=wide, lines=high))


def find_curve(sample: Sample, *, width: int) -> str | None:
    """A row of numbers as a curve of at most `width` characters; None for anything else."""
    if not isinstance(sample, np.ndarray) or sample.ndim != 1 or len(sample) < 2 or not _is_real(sample):
        return None
    values = sample.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    return draw_sparkline(values, width, low=float(finite.min()), high=float(finite.max()))


def describe_shortly(sample: Sample, *, width: int) -> str:
    """A sample in at most `width` characters: text, a number, a curve, or else its shape."""
    if isinstance(sample, str):
        text = " ".join(sample.split())
        return text if len(text) <= width else f"{text[: width - 1]}…"
    if isinstance(sample, bytes):
        return f"{len(sample)} bytes"
    if sample.ndim == 0:
        return str(sample[()])
    return find_curve(sample, width=width) or f"{sample.dtype} {'x'.join(map(str, sample.shape))}"


def _is_real(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf" or array.dtype.isbuiltin == 2
