"""`stock exp ls`: list the values, metrics and artifacts of one commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.contents import artifact_document
from stockroom.cli.render.experiment import as_json, shorten, summary_document
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb
from stockroom.shelves.experiment.cells import format_cell

if TYPE_CHECKING:
    from stockroom import Artifact, ExperimentRow
    from stockroom.shelves.experiment.metrics import MetricSummary

_CELL_WIDTH = 80


@verb(example="stock exp ls v1", complete={"rev": "refs"})
def ls(console: Console, rev: Annotated[str, typer.Argument(metavar="[REV]", help="The commit.")] = "HEAD") -> None:
    """List the values, metrics and artifacts of a commit."""
    with console.open_stock(rev) as stock:
        row = next(iter(stock.experiment.table(n=1)), None)
        artifacts = list(stock.experiment.artifacts.values())
        console.answer(lambda: _document(row, artifacts), _iter_lines(row, artifacts))


def _iter_lines(row: ExperimentRow | None, artifacts: list[Artifact]) -> Iterator[str]:
    sections = {
        "values": [] if row is None else [(n, shorten(format_cell(v), _CELL_WIDTH)) for n, v in row.values.items()],
        "metrics": [] if row is None else [(name, _format_metric(summary)) for name, summary in row.metrics.items()],
        "artifacts": [(each.name, f"{format_nbytes(each.nbytes)}, {each.media_type}") for each in artifacts],
    }
    for title, rows in sections.items():
        if rows:
            yield title
            yield from (f"  {line}" for line in iter_table_lines(rows))


def _format_metric(summary: MetricSummary) -> str:
    last = f"last {format_cell(summary.last)} at step {summary.last_step}"
    return f"{format_count(summary.count, 'point')}, {last}"


def _document(row: ExperimentRow | None, artifacts: list[Artifact]) -> dict[str, object]:
    return {
        "commit": None if row is None else row.commit.id,
        "values": {} if row is None else as_json(row.values),
        "metrics": {} if row is None else {name: summary_document(each) for name, each in row.metrics.items()},
        "artifacts": {each.name: artifact_document(each) for each in artifacts},
    }
