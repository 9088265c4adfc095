"""Pictures in a terminal: a character is two pixels, the upper in the text color, the lower in the background color."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_PAPER: Final = 255
"""The background of transparent pictures."""

_CHANNELS: Final = (3, 4)


def find_pixels(sample: object) -> Pixels | None:
    """Return a sample as `(h, w)` or `(h, w, 3 or 4)`, channels moved last; None if it is not a uint8 picture."""
    if not isinstance(sample, np.ndarray) or sample.dtype != np.uint8 or sample.size == 0:
        return None
    if sample.ndim == 3 and sample.shape[2] not in (1, *_CHANNELS) and sample.shape[0] in (1, 3):
        sample = np.moveaxis(sample, 0, 2)
    if sample.ndim == 3 and sample.shape[2] == 1:
        sample = sample[:, :, 0]
    if sample.ndim == 2 or (sample.ndim == 3 and sample.shape[2] in _CHANNELS):
        return np.ascontiguousarray(sample)
    return None


def iter_picture_lines(pixels: Pixels, *, columns: int, lines: int) -> Iterator[str]:
    """Yield a picture as at most `lines` lines of at most `columns` characters, with 24-bit color codes."""
    height, width = pixels.shape[:2]
    scale = min(1.0, columns / width, 2 * lines / height)
    small = shrink(_flatten(pixels), max(round(height * scale), 1), max(round(width * scale), 1))
    for top in range(0, len(small), 2):
        lower = small[top + 1] if top + 1 < len(small) else [None] * small.shape[1]
        yield "".join(map(_draw_cell, small[top], lower)) + "\x1b[0m"


def shrink(rgb: Pixels, height: int, width: int) -> Pixels:
    """Return `(height, width, 3)`: each pixel is the mean of the pixels of `rgb` that it covers."""
    rows, columns = (np.arange(n) * size // n for n, size in ((height, len(rgb)), (width, rgb.shape[1])))
    sums = np.add.reduceat(np.add.reduceat(rgb, rows, axis=0, dtype=np.uint64), columns, axis=1)
    counts = np.diff(rows, append=len(rgb))[:, None] * np.diff(columns, append=rgb.shape[1])[None, :]
    return (sums // counts[:, :, None].astype(np.uint64)).astype(np.uint8)


def _flatten(pixels: Pixels) -> Pixels:
    """Return `(h, w, 3)`, with transparent pixels blended with `_PAPER`."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    cover = pixels[:, :, 3:].astype(np.uint32)
    blended: NDArray[Any] = (pixels[:, :, :3] * cover + _PAPER * (255 - cover)) // 255
    return blended.astype(np.uint8)


def _draw_cell(upper: Pixels, lower: Pixels | None) -> str:
    red, green, blue = upper.tolist()
    front = f"\x1b[38;2;{red};{green};{blue}m"
    if lower is None:
        return f"\x1b[49m{front}▀"
    red, green, blue = lower.tolist()
    return f"{front}\x1b[48;2;{red};{green};{blue}m▀"
