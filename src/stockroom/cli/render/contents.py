"""The contents of a commit by shelf, as rows of a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stockroom.cli.render.column import column_document, column_line
from stockroom.cli.render.commit import SHORT_DIGITS
from stockroom.cli.render.model import model_cells, model_document
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.units import format_count, format_nbytes

if TYPE_CHECKING:
    from stockroom import Artifact, StockRoom

_VALUE_WIDTH: Final = 80


@dataclass(frozen=True, slots=True)
class ListedItem:
    """One thing in a commit: its path, a few words about it, and the same as JSON."""

    path: str
    words: tuple[str, ...]
    document: dict[str, object]

    @property
    def cells(self) -> tuple[str, ...]:
        """The path and the words, as cells of a table."""
        return (format_key(self.path), *self.words)


def list_columns(stock: StockRoom) -> list[ListedItem]:
    """Return the columns with schema, count and size."""
    columns = [stock.data[name] for name in stock.data]
    return [ListedItem(f"data/{column.name}", column_line(column)[1:], column_document(column)) for column in columns]


def list_versions(stock: StockRoom) -> list[ListedItem]:
    """Return the columns with count and the digest of their content."""
    items = []
    for name, column in stock.data.items():
        document = {"name": name, "count": len(column), "root": column.root}
        words = (format_count(len(column), "sample"), f"root {column.root[:SHORT_DIGITS]}")
        items.append(ListedItem(f"data/{name}", words, document))
    return items


def list_models(stock: StockRoom) -> list[ListedItem]:
    """Return the models with leaves, size and metadata."""
    return [
        ListedItem(f"model/{name}", model_cells(state), model_document(state)) for name, state in stock.model.items()
    ]


def list_values(stock: StockRoom) -> list[ListedItem]:
    """Return the values of the experiment, shortened; reads no chunks."""
    from stockroom.cli.render.experiment import as_json, shorten
    from stockroom.shelves.experiment.cells import format_cell

    items = []
    for key in stock.experiment:
        cells = stock.experiment.outline(key)
        parts = [f"{name[len(key) + 1 :]}={format_cell(cell)}" for name, cell in cells.items()]
        text = format_cell(cells[key]) if key in cells else " ".join(parts)
        document = {"name": key, "cells": as_json(cells)}
        items.append(ListedItem(f"experiment/{key}", (shorten(text, _VALUE_WIDTH),), document))
    return items


def list_metrics(stock: StockRoom) -> list[ListedItem]:
    """Return the metrics with their last value and number of points."""
    from stockroom.cli.render.experiment import summary_document
    from stockroom.shelves.experiment.cells import format_cell

    items = []
    for name in stock.experiment.metrics:
        summary = stock.experiment.metrics.summary(name)
        words = (format_count(summary.count, "point"), f"last {format_cell(summary.last)} at step {summary.last_step}")
        items.append(ListedItem(f"metric/{name}", words, {"name": name, **summary_document(summary)}))
    return items


def list_artifacts(stock: StockRoom) -> list[ListedItem]:
    """Return the artifacts with media type and size."""
    return [
        ListedItem(
            f"artifact/{each.name}",
            (each.media_type, format_nbytes(each.nbytes)),
            {"name": each.name, **artifact_document(each)},
        )
        for each in stock.experiment.artifacts.values()
    ]


def artifact_document(artifact: Artifact) -> dict[str, object]:
    """Return an artifact as JSON, without its name."""
    return {"media_type": artifact.media_type, "nbytes": artifact.nbytes, "digest": artifact.digest}


LISTERS: Final[dict[str, tuple[str, Callable[[StockRoom], Sequence[ListedItem]]]]] = {
    "data": ("columns", list_columns),
    "model": ("models", list_models),
    "experiment": ("values", list_values),
    "metric": ("metrics", list_metrics),
    "artifact": ("artifacts", list_artifacts),
}
"""Maps the first part of a path to the JSON name of its things, and the function that lists them."""
