"""`stock show`: a commit, a column or one sample, described."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import parse_address, parse_key, split_path
from stockroom.cli.change_text import Change, changes_document, changes_of_diff, iter_stat_lines
from stockroom.cli.column_text import column_document, column_line, format_shape
from stockroom.cli.commit_text import commit_document, iter_commit_lines
from stockroom.cli.console import Console
from stockroom.cli.ls import list_columns
from stockroom.cli.printable import format_key
from stockroom.cli.verb import verb
from stockroom.errors import RefNotFoundError

if TYPE_CHECKING:
    from stockroom import Column, Commit, StockRoom


@verb
def show(
    console: Console,
    address: Annotated[str, typer.Argument(metavar="[REV][:data/COLUMN[/KEY]]", help="What to show.")] = "HEAD",
) -> None:
    """Show a commit and what it changed, or a column's schema, or one sample's form and values."""
    place = parse_address(address)
    with console.open_stock(place.ref) as stock:
        if not place.path:
            _show_commit(console, stock, place.ref)
            return
        column_name, key_text = split_path(place.path, list(stock.data))
        if column_name is None:
            list_columns(console, stock)
        elif key_text is None:
            _show_column(console, stock.data[column_name])
        else:
            column = stock.data[column_name]
            _show_sample(console, column, parse_key(key_text, str(column.key_type), column=column_name))


def _show_commit(console: Console, stock: StockRoom, ref: str) -> None:
    commit = next(stock.log(n=1), None)
    if commit is None:
        raise RefNotFoundError("HEAD has no commit yet; `stock commit` makes the first", ref=ref)
    changes = _list_changes(stock, commit)
    if console.json:
        console.document({"commit": commit_document(commit), "changes": changes_document(changes)})
        return
    console.lines(iter_commit_lines(commit))
    console.line()
    console.lines(iter_stat_lines(changes))


def _list_changes(stock: StockRoom, commit: Commit) -> list[Change]:
    """What a commit changed against its first parent; all of it in a first commit, or where history is cut off."""
    with suppress(RefNotFoundError):
        if commit.parents:
            return changes_of_diff(stock.diff(commit.parents[0], commit.id))
    return [Change(f"data/{name}", "added", len(column), 0, 0) for name, column in stock.data.items()]


def _show_column(console: Console, column: Column) -> None:
    if console.json:
        console.document({"column": column_document(column)})
        return
    path, dtype, shape, count, nbytes = column_line(column)
    console.line(path)
    rows = [
        ("dtype", dtype),
        ("shape", shape),
        ("keys", str(column.key_type)),
        ("count", count),
        ("size", nbytes),
    ]
    rows += [(f"attr {name}", str(value)) for name, value in column.attrs.items()]
    console.lines(f"  {name}: {value}" for name, value in rows)


def _show_sample(console: Console, column: Column, key: int | str) -> None:
    from stockroom.cli.sample_text import sample_document  # imports numpy

    sample = column[key]
    form = sample_document(sample)
    digest = column.digest(key)
    if console.json:
        console.document({"path": f"data/{column.name}", "key": key, "digest": digest, **form})
        return
    summary = form.pop("summary")
    form["shape"] = format_shape(() if isinstance(sample, str | bytes) else sample.shape)
    console.line(f"data/{column.name}/{format_key(key)}")
    rows = [*form.items(), ("digest", digest), *_pairs(summary)]
    console.lines(f"  {name}: {value}" for name, value in rows)
    if isinstance(sample, str):
        console.line(f"  text: {sample[:200]}")


def _pairs(summary: object) -> list[tuple[str, object]]:
    return list(summary.items()) if isinstance(summary, dict) else []
