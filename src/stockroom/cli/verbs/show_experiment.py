"""A value, metric or artifact of the experiment, described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from stockroom.cli.render.experiment import as_json, shorten, summary_document
from stockroom.shelves.experiment.cells import format_cell

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.console import Console

_TEXT_WIDTH: Final = 200


def show_item(console: Console, stock: StockRoom, shelf: str, name: str) -> None:
    """Print what is called `name` among the values, metrics or artifacts; `ValueNotFoundError`."""
    fields = _DESCRIBE[shelf](stock, name)
    if console.json:
        console.document({"path": f"{shelf}/{name}", **as_json(fields)})
        return
    console.line(f"{shelf}/{name}")
    if shelf == "experiment":  # by the names of its parts, of which one alone is the value itself
        fields = {part.removeprefix(name).removeprefix(".") or "value": cell for part, cell in fields["cells"].items()}
    console.lines(f"  {part}: {shorten(format_cell(value), _TEXT_WIDTH)}" for part, value in fields.items())


def _describe_value(stock: StockRoom, name: str) -> dict[str, Any]:
    return {"cells": stock.experiment.outline(name)}


def _describe_metric(stock: StockRoom, name: str) -> dict[str, Any]:
    summary = stock.experiment.metrics.summary(name)
    return {**summary_document(summary), "last": summary.last, "min": summary.min, "max": summary.max}


def _describe_artifact(stock: StockRoom, name: str) -> dict[str, Any]:
    artifact = stock.experiment.artifacts[name]
    return {"media_type": artifact.media_type, "nbytes": artifact.nbytes, "digest": artifact.digest}


_DESCRIBE: Final[Mapping[str, Callable[[StockRoom, str], dict[str, Any]]]] = {
    "experiment": _describe_value,
    "metric": _describe_metric,
    "artifact": _describe_artifact,
}
