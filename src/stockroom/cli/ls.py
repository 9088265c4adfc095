"""`stock ls`: the columns of a commit, or the keys of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import parse_path_address, split_path
from stockroom.cli.column_text import column_document, column_line
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.printable import format_key
from stockroom.cli.table import iter_table_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb
def ls(
    console: Console,
    address: Annotated[str, typer.Argument(metavar="[REV:][data[/COLUMN]]", help="What to list.")] = "HEAD:data",
) -> None:
    """List the columns with dtype, shape, count and size, or the keys of one column."""
    place = parse_path_address(address)
    with console.open_stock(place.ref) as stock:
        column, key = split_path(place.path or "data", list(stock.data))
        if key is not None:
            raise CommandLineError(
                f"ls lists a column, found a key after it: {place.path!r}; `stock show` describes it"
            )
        if column is None:
            list_columns(console, stock)
        else:
            _list_keys(console, stock, column)


def list_columns(console: Console, stock: StockRoom) -> None:
    """Print every column of the handle's commit."""
    columns = [stock.data[name] for name in stock.data]
    if console.json:
        console.document({"columns": [column_document(column) for column in columns]})
    else:
        console.lines(iter_table_lines([column_line(column) for column in columns]))


def _list_keys(console: Console, stock: StockRoom, name: str) -> None:
    keys = stock.data[name].keys()
    if console.json:
        console.document({"path": f"data/{name}", "keys": list(keys)})
    else:
        console.lines(format_key(key) for key in keys)
