"""Samples for people and programs: text, JSON, `.npy` bytes, color pictures, and curves."""

from __future__ import annotations

import base64
import io
import math
import shutil
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.cli.render.bars import draw_sparkline
from stockroom.cli.render.picture import find_pixels, iter_picture_lines

Sample: TypeAlias = "NDArray[Any] | str | bytes"

_PROMPT_LINES: Final = 8
"""Lines of the terminal that a picture leaves for the text above it."""


def sample_document(sample: Sample) -> dict[str, object]:
    """Return a sample's dtype, shape and size in bytes, and a summary of its values, as JSON."""
    if isinstance(sample, np.ndarray):
        return {
            "dtype": str(sample.dtype),
            "shape": list(sample.shape),
            "nbytes": int(sample.nbytes),
            "summary": summarise(sample),
        }
    kind = "str" if isinstance(sample, str) else "bytes"
    return {"dtype": kind, "shape": [], "nbytes": len(raw_bytes(sample)), "summary": {"length": len(sample)}}


def summarise(array: NDArray[Any]) -> dict[str, object]:
    """Return the least, greatest and mean value as JSON, if the dtype has them, or else a single value itself."""
    if array.size == 0:
        return {}
    if array.size == 1:
        return {"value": json_value(array.reshape(()))}
    if array.dtype.kind in "mM":
        return {"min": str(array.min()), "max": str(array.max())}
    if array.dtype.kind == "c":
        return {}
    numbers = array.astype(np.float64)
    low, high = (array if array.dtype.kind in "iu" else numbers).min(), numbers.max()
    high = array.max() if array.dtype.kind in "iu" else high
    return {"min": json_value(low), "max": json_value(high), "mean": json_value(numbers.mean())}


def json_value(value: Any) -> object:
    """Return a sample as JSON: nested lists, NaN and infinities as strings, complex as `[real, imaginary]`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    array = np.asarray(value)
    if array.dtype.kind in "mM":
        return array.astype(str).tolist()
    if array.dtype.kind == "c":
        return json_value(np.stack([array.real, array.imag], axis=-1))
    if array.dtype.kind in "biu":
        return array.tolist()
    return _finite(array.astype(np.float64).tolist())


def raw_bytes(sample: Sample) -> bytes:
    """Return a sample's raw bytes: UTF-8, the bytes themselves, or an array's in C order, little-endian."""
    if isinstance(sample, str):
        return sample.encode("utf-8", "surrogatepass")
    if isinstance(sample, bytes):
        return sample
    little = sample.dtype.newbyteorder("<") if sample.dtype.isbuiltin != 2 else sample.dtype
    return np.ascontiguousarray(sample).astype(little, copy=False).tobytes()


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return an array as a `.npy` file; bfloat16 and float8, which the format lacks, as unsigned integers."""
    if array.dtype.isbuiltin == 2:  # a dtype that a package registered
        array = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_text(array: NDArray[Any]) -> str:
    """Return an array as text for a terminal, shortened in the middle if it is large."""
    return np.array2string(array, threshold=1000, edgeitems=4, max_line_width=100)


def _finite(value: object) -> object:
    """Return floats that JSON lacks as strings that Python's `float` can parse."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def draw_look(sample: Sample, *, columns: int | None = None, lines: int | None = None) -> list[str]:
    """Return a picture as lines with color codes, at most as large as the terminal; no lines if it is no picture."""
    pixels = find_pixels(sample)
    if pixels is None:
        return []
    terminal = shutil.get_terminal_size()
    wide = terminal.columns if columns is None else columns
    high = max(terminal.lines - _PROMPT_LINES, 4) if lines is None else lines
    return list(iter_picture_lines(pixels, columns=wide, lines=high))


def find_curve(sample: Sample, *, width: int) -> str | None:
    """Return a row of numbers as a curve of at most `width` characters; None for anything else."""
    if not isinstance(sample, np.ndarray) or sample.ndim != 1 or len(sample) < 2 or not _is_real(sample):
        return None
    values = sample.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    return draw_sparkline(values, width, low=float(finite.min()), high=float(finite.max()))


def describe_shortly(sample: Sample, *, width: int) -> str:
    """Return a sample in at most `width` characters: text, a number, a curve, or its shape."""
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
