"""`stock exp show`: compare experiments, one line for each commit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.experiment import DATE, NOTHING, as_json, list_refs, shorten, summary_document
from stockroom.cli.render.printable import escape_markdown, quote_formula
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb
from stockroom.shelves.experiment.metrics import METRIC_CHOICES, MetricChoice

if TYPE_CHECKING:
    from stockroom import ExperimentRow, ExperimentTable, StockRoom

_CELL_WIDTH = 32
_SUBJECT_WIDTH = 40


@verb(example="stock exp show --filter 'lr < 0.01' --sort acc", complete={"refs": "refs"})
def show(
    console: Console,
    refs: Annotated[list[str] | None, typer.Argument(help="Commits to compare; HEAD's history by default.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Compare every branch and tag.")] = False,
    n: Annotated[int | None, typer.Option("-n", "--max-count", min=0, help="Show at most this many commits.")] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="Show only values and metrics that differ.")
    ] = False,
    sort: Annotated[str | None, typer.Option(metavar="NAME", help="Sort by a value or metric.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort in descending order.")] = False,
    filter: Annotated[
        str | None,
        typer.Option(metavar="EXPR", help="Only commits that match, such as 'optimizer.lr < 0.01 and acc > 0.9'."),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="|".join(METRIC_CHOICES),
            help="Which point of a metric to show. The best is the least for metrics called loss, error, perplexity, "
            "mae, mse or rmse, and the greatest for others. Conditions always use the last.",
        ),
    ] = "last",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all digits.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
) -> None:
    """Compare the values and metrics of commits, one line per commit."""
    if metrics not in METRIC_CHOICES:
        raise CommandLineError(f"--metrics expects one of {', '.join(METRIC_CHOICES)}, found {metrics!r}")
    if sum((as_csv, as_markdown, console.json)) > 1:
        raise CommandLineError("--csv, --md and --json cannot be combined")
    if reverse and sort is None:
        raise CommandLineError("--reverse needs --sort")
    choice: MetricChoice = metrics
    with console.open_stock() as stock:
        is_whole = filter is None and sort is None
        table = stock.experiment.table(_choose_refs(stock, refs, all_=all_), n=n if is_whole else None)
        if filter is not None:
            table = table.filter(filter)
        if sort is not None:
            table = table.sort(sort, reverse, metric=choice)
        table = table if n is None else table.head(n)
        table = table.changed_only() if only_changed else table
        names = list_refs(stock)
        iter_lines = _iter_csv_lines if as_csv else _iter_markdown_lines if as_markdown else _iter_lines
        console.answer(lambda: _document(table, names, choice), lambda: iter_lines(table, names, choice))


def _choose_refs(stock: StockRoom, refs: list[str] | None, *, all_: bool) -> list[str] | None:
    """Return the commits of the rows; for `--all`, each tip once, newest first."""
    if not all_:
        return refs or None
    if refs:
        raise CommandLineError("REFS and --all cannot be combined")
    tips = dict.fromkeys((*stock.branches.values(), *stock.tags.values()))
    times = {commit: next(stock.log(commit, n=1)).time for commit in tips}
    return sorted(tips, key=lambda commit: times[commit], reverse=True)


def _list_headings(table: ExperimentTable, choice: MetricChoice) -> tuple[str, ...]:
    metrics = [name if choice == "last" else f"{name} ({choice})" for name in table.metric_columns]
    return ("commit", "refs", "date", "subject", *table.value_columns, *metrics)


def _list_cells(table: ExperimentTable, row: ExperimentRow, choice: MetricChoice, nothing: Any) -> list[Any]:
    """Return a row's cell in each column, `nothing` if it has none."""
    picks = [row.metrics[name].pick(choice, name) if name in row.metrics else nothing for name in table.metric_columns]
    return [*(row.values.get(name, nothing) for name in table.value_columns), *picks]


def _iter_rows(table: ExperimentTable, names: dict[str, list[str]], choice: MetricChoice) -> Iterator[tuple[str, ...]]:
    from stockroom.shelves.experiment.cells import format_cell

    for row in table:
        commit = row.commit
        cells = [shorten(format_cell(cell), _CELL_WIDTH) for cell in _list_cells(table, row, choice, NOTHING)]
        refs, subject = ", ".join(names.get(commit.id, [])), shorten(subject_of(commit.message), _SUBJECT_WIDTH)
        yield (short_id(commit.id), refs, f"{commit.time:{DATE}}", subject, *cells)


def _iter_lines(table: ExperimentTable, names: dict[str, list[str]], choice: MetricChoice) -> Iterator[str]:
    return iter_table_lines([_list_headings(table, choice), *_iter_rows(table, names, choice)])


def _iter_csv_lines(table: ExperimentTable, names: dict[str, list[str]], choice: MetricChoice) -> Iterator[str]:
    yield from _iter_csv(("commit", "refs", "time", "subject", *_list_headings(table, choice)[4:]))
    for row in table:
        commit = row.commit
        head = (commit.id, " ".join(names.get(commit.id, [])), commit.time.isoformat(), subject_of(commit.message))
        yield from _iter_csv((*head, *map(_format_full, _list_cells(table, row, choice, ""))))


def _iter_csv(cells: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a row; it has several if there is a newline in a cell."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(map(quote_formula, cells))
    yield from row.getvalue().split("\n")


def _format_full(cell: Any) -> str:
    """Return a cell with all its digits; lists and other cells that CSV has no form for become JSON."""
    plain = as_json(cell)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _iter_markdown_lines(table: ExperimentTable, names: dict[str, list[str]], choice: MetricChoice) -> Iterator[str]:
    headings = _list_headings(table, choice)
    yield _format_markdown(headings)
    yield _format_markdown(["---"] * len(headings))
    for row in _iter_rows(table, names, choice):
        yield _format_markdown(row)


def _format_markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _document(table: ExperimentTable, names: dict[str, list[str]], choice: MetricChoice) -> dict[str, object]:
    return {
        "columns": {"values": list(table.value_columns), "metrics": list(table.metric_columns)},
        "rows": [_row_document(table, row, names.get(row.commit.id, []), choice) for row in table],
    }


def _row_document(
    table: ExperimentTable, row: ExperimentRow, refs: list[str], choice: MetricChoice
) -> dict[str, object]:
    metrics = {
        name: {**summary_document(row.metrics[name]), choice: as_json(row.metrics[name].pick(choice, name))}
        for name in table.metric_columns
        if name in row.metrics
    }
    return {
        "commit": row.commit.id,
        "ref": row.ref,
        "refs": refs,
        "time": row.commit.time.isoformat(),
        "message": row.commit.message,
        "values": {name: as_json(row.values[name]) for name in table.value_columns if name in row.values},
        "metrics": metrics,
    }
