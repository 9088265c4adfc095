"""One leaf of a model, and the statistics of tensors, for people and programs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stockroom.cli.render.sample import json_value, raw_bytes
from stockroom.shelves.model.stats import TensorStats, is_measurable, measure

if TYPE_CHECKING:
    from stockroom import LeafInfo, State


def describe_leaf(state: State, leaf: LeafInfo) -> tuple[dict[str, object], dict[str, object]]:
    """Return a leaf's dtype, shape and size, and a summary of its values, as JSON."""
    fields = {"dtype": leaf.dtype, "shape": list(leaf.shape), "nbytes": leaf.nbytes, "tied_to": leaf.tied_to}
    if leaf.library == "python":
        return fields, summarise_scalar(state.read(leaf.path))
    if not is_measurable(leaf):
        return fields, {}
    stats = measure(partial(state.iter_pieces, leaf.path), leaf.dtype, bins=1)
    if stats.count == 1:
        return fields, {"value": json_value(state.read(leaf.path, as_numpy=True))}
    return fields, stats_document(stats)


def summarise_scalar(value: Any) -> dict[str, object]:
    """Return a Python scalar as JSON; only the length for long text and bytes."""
    if isinstance(value, str | bytes) and len(value) > 200:
        return {"length": len(raw_bytes(value))}
    return {"value": json_value(value)}


def stats_document(stats: TensorStats) -> dict[str, object]:
    """Return statistics as JSON, without the histogram."""
    return {
        "count": stats.count,
        "mean": json_float(stats.mean),
        "std": json_float(stats.std),
        "min": json_float(stats.least),
        "max": json_float(stats.greatest),
        "zeros": stats.zeros,
        "zero_fraction": stats.zero_fraction,
        "nan": stats.nan,
        "inf": stats.inf,
    }


def json_float(value: float | None) -> object:
    """Return a number as JSON; numbers that JSON lacks become text."""
    return None if value is None else json_value(value)


def format_number(value: float | None) -> str:
    """Return `0.01234` or `-1.2e+20`; an empty text for None."""
    return "" if value is None else f"{value:.4g}"
