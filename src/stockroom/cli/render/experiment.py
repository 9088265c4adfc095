"""Values and metrics of experiments as text and JSON, for the verbs under `exp`."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.shelves.experiment.cells import Outline

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.shelves.experiment.metrics import MetricSummary

DATE: Final = "%Y-%m-%d %H:%M"
NOTHING: Final = "-"
"""Shown in a table if a commit lacks a value."""


def as_json(value: Any) -> Any:
    """Return a value as JSON; NaN and infinities become the strings `NaN`, `Infinity` and `-Infinity`.

    Bytes become base64, arrays get their dtype and shape, and complex numbers and dates become text.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": _list_elements(value)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return _scalar_as_json(_as_python(value))


def summary_document(summary: MetricSummary) -> dict[str, object]:
    """Return the parts of a metric's summary that are cheap to read, as JSON."""
    return {"last": as_json(summary.last), "last_step": summary.last_step, "count": summary.count}


def list_refs(stock: StockRoom) -> dict[str, list[str]]:
    """Return the branches, then the tags, of each commit."""
    refs: dict[str, list[str]] = {}
    for name, commit in (*stock.branches.items(), *stock.tags.items()):
        refs.setdefault(commit, []).append(name)
    return refs


def shorten(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = " ".join(text.split()) if not text.isprintable() else text
    return line if len(line) <= width else line[: width - 1] + "…"


def _list_elements(array: NDArray[Any]) -> Any:
    """Return the elements as nested lists, one level for each axis."""
    if array.dtype.kind not in "mMV":  # for dates and other packages' dtypes, tolist() returns other types
        return as_json(array.tolist())
    return [_list_elements(part) for part in array] if array.ndim else as_json(array[()])


def _as_python(value: Any) -> Any:
    """Return a numpy scalar as a Python scalar."""
    if not isinstance(value, np.generic):
        return value
    if value.dtype.kind in "mM":
        return str(value)
    return float(value) if value.dtype.kind == "V" else value.item()


def _scalar_as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Outline | complex):
        return str(value)
    return value
