"""`stock exp plot`: draw the curve of a metric, in the terminal or to a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.bars import draw_sparkline
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.experiment import as_json
from stockroom.cli.render.plot import SUFFIXES, write_plot
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb
from stockroom.errors import ValueNotFoundError, did_you_mean, near_names

if TYPE_CHECKING:
    from stockroom import ExperimentRow, Series

_MIN_WIDTH, _MAX_WIDTH = 8, 80


@verb(example="stock exp plot loss main relabel -o loss.png", complete={"refs": "refs"})
def plot(
    console: Console,
    metric: Annotated[str, typer.Argument(help="The metric.")],
    refs: Annotated[list[str] | None, typer.Argument(help="Commits to compare; HEAD by default.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Draw to FILE.png, .svg or .html; needs matplotlib."),
    ] = None,
) -> None:
    """Draw a metric in the terminal or to a file, one curve per commit."""
    with console.open_stock() as stock:
        rows = {str(row.ref): row for row in stock.experiment.table(refs or ["HEAD"])}
        curves = {ref: _read(row, metric) for ref, row in rows.items()}
        if output is not None:
            if output.suffix.lower() not in SUFFIXES:
                raise CommandLineError(f"expected a file ending in {', '.join(SUFFIXES)}, found {output}")
            labels = {ref: f"{ref} ({short_id(row.commit.id)})" for ref, row in rows.items()}
            write_plot(output, metric, {labels[ref]: series for ref, series in curves.items()})
            console.say(f"drew {metric} to {output}")
        console.answer(
            lambda: _document(metric, output, rows, curves), lambda: _iter_lines(curves) if output is None else ()
        )


def _read(row: ExperimentRow, metric: str) -> Series:
    if metric not in row.metrics:
        near = near_names(metric, row.metrics) or list(row.metrics)[:5]
        raise ValueNotFoundError(f"no metric {metric!r} in {row.ref}; {did_you_mean(near) or 'it has no metrics'}")
    return row.metrics[metric].series


def _iter_lines(curves: Mapping[str, Series]) -> Iterator[str]:
    """Yield curves on one scale, as wide as the terminal allows."""
    finite = np.concatenate([series.values[np.isfinite(series.values)] for series in curves.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    facts = {label: _describe(series) for label, series in curves.items()}
    taken = max(map(len, curves)) + sum(max(map(len, column)) + 2 for column in zip(*facts.values(), strict=True))
    width = min(max(shutil.get_terminal_size().columns - taken - 2, _MIN_WIDTH), _MAX_WIDTH)
    return iter_table_lines(
        [
            (label, draw_sparkline(series.values, width, low=low, high=high), *facts[label])
            for label, series in curves.items()
        ]
    )


def _describe(series: Series) -> tuple[str, str, str]:
    values = series.values
    if not len(values):
        return "no points", "", ""
    low, high = np.fmin.reduce(values), np.fmax.reduce(values)
    return f"min {low:.4g}", f"max {high:.4g}", f"last {values[-1]:.4g} at step {series.steps[-1]}"


def _document(
    metric: str, output: Path | None, rows: Mapping[str, ExperimentRow], curves: Mapping[str, Series]
) -> dict[str, Any]:
    series = [
        {"ref": ref, "commit": row.commit.id, "steps": curve.steps.tolist(), "values": as_json(curve.values.tolist())}
        for (ref, row), curve in zip(rows.items(), curves.values(), strict=True)
    ]
    return {"metric": metric, "path": None if output is None else str(output), "series": series}
