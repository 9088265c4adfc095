"""`stock show`: a commit, or one thing in it, described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, parse_address, parse_key, split_path, split_shelf
from stockroom.cli.column_text import column_document, column_line, format_shape
from stockroom.cli.console import Console
from stockroom.cli.ls import list_shelves
from stockroom.cli.printable import format_key
from stockroom.cli.verb import verb
from stockroom.errors import NotFoundError

if TYPE_CHECKING:
    from stockroom import Column, StockRoom


@verb
def show(
    console: Console,
    address: Annotated[
        str,
        typer.Argument(
            metavar="[REV][:PATH]",
            help="A commit, or data/COLUMN[/KEY], model/NAME[/LEAF], experiment/KEY, metric/NAME, artifact/NAME in it.",
        ),
    ] = "HEAD",
) -> None:
    """Show a commit, what it holds and what it changed; or a column, sample, model, leaf, value, metric or artifact."""
    place = parse_address(address)
    with console.open_stock(place.ref) as stock:
        if not place.path:
            from stockroom.cli.show_commit import show_commit

            show_commit(console, stock, place.ref)
            return
        try:
            _show_path(console, stock, place.path)
        except NotFoundError as error:
            if place.path in stock.branches or place.path in stock.tags:
                raise NotFoundError(f"{error}; the branch or tag of that name is '{place.path}:'") from error
            raise


def _show_path(console: Console, stock: StockRoom, path: str) -> None:
    """Print what is at a path in the handle's commit."""
    shelf, rest = split_shelf(path)
    if not rest:
        list_shelves(console, stock, [shelf])
    elif shelf == DATA_SHELF:
        _show_data(console, stock, path)
    elif shelf == MODEL_SHELF:
        from stockroom.cli.model_show import show_path

        show_path(console, stock, rest)
    else:
        from stockroom.cli.show_experiment import show_item

        show_item(console, stock, shelf, rest)


def _show_data(console: Console, stock: StockRoom, path: str) -> None:
    column_name, key_text = split_path(path, list(stock.data))
    assert column_name is not None
    column = stock.data[column_name]
    if key_text is None:
        _show_column(console, column)
    else:
        _show_sample(console, column, parse_key(key_text, str(column.key_type), column=column_name))


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
    rows += [("decoder", column.decoder)] if column.decoder else []
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
