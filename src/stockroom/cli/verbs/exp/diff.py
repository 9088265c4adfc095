"""`stock exp diff`: show the values and metrics that differ between two commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.experiment import NOTHING, as_json, shorten, summary_document
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb
from stockroom.cli.verbs.diff import split_range
from stockroom.shelves.experiment.cells import format_cell

if TYPE_CHECKING:
    from stockroom import ExperimentRow, ExperimentTable
    from stockroom.shelves.experiment.metrics import MetricSummary

_CELL_WIDTH = 60


@verb(example="stock exp diff main..relabel", complete={"a": "refs", "b": "refs"})
def diff(
    console: Console,
    a: Annotated[str, typer.Argument(metavar="A[..B]", help="The old side.")],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The new side; HEAD by default.")] = None,
) -> None:
    """Show the values and metrics that differ between two commits.

    For a metric, show its last point.
    """
    old, new = split_range(a, b)
    with console.open_stock() as stock:
        table = stock.experiment.table([old, new or "HEAD"]).changed_only()
        console.answer(
            lambda: _document(table), lambda: iter_table_lines(list(_iter_rows(table))) if table.columns else ()
        )


def _iter_rows(table: ExperimentTable) -> Iterator[tuple[str, ...]]:
    yield "", *(f"{row.ref} ({short_id(row.commit.id)})" for row in table)
    for name in table.value_columns:
        yield name, *(shorten(format_cell(row.values.get(name, NOTHING)), _CELL_WIDTH) for row in table)
    for name in table.metric_columns:
        yield name, *(_format_metric(row.metrics.get(name)) for row in table)


def _format_metric(summary: MetricSummary | None) -> str:
    return NOTHING if summary is None else f"{format_cell(summary.last)} at step {summary.last_step}"


def _document(table: ExperimentTable) -> dict[str, object]:
    return {
        "a": table[0].commit.id,
        "b": table[1].commit.id,
        "values": {name: _sides(table, lambda row: row.values, name, as_json) for name in table.value_columns},
        "metrics": {
            name: _sides(table, lambda row: row.metrics, name, summary_document) for name in table.metric_columns
        },
    }


def _sides(table: Sequence[ExperimentRow], choose: Any, name: str, describe: Any) -> Mapping[str, object]:
    """Return both sides of one difference; a side without the name is omitted, since null is a value too."""
    sides = {side: choose(row) for side, row in zip(("a", "b"), table, strict=True)}
    return {side: describe(held[name]) for side, held in sides.items() if name in held}
