"""`stock ls`: what a commit holds, the keys of a column, or the leaves of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, parse_path_address, split_path, split_shelf
from stockroom.cli.console import Console
from stockroom.cli.contents import LISTERS
from stockroom.cli.failures import CommandLineError
from stockroom.cli.printable import format_key
from stockroom.cli.table import iter_table_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb
def ls(
    console: Console,
    address: Annotated[
        str, typer.Argument(metavar="[REV:][SHELF[/NAME]]", help="As data, data/image, model, model/resnet, metric.")
    ] = "HEAD:",
) -> None:
    """List what a commit holds: columns, models, values, metrics, artifacts; of one column or model what is in it."""
    place = parse_path_address(address)
    with console.open_stock(place.ref) as stock:
        if not place.path:
            list_shelves(console, stock, list(LISTERS))
            return
        shelf, rest = split_shelf(place.path)
        if not rest:
            list_shelves(console, stock, [shelf])
        elif shelf == DATA_SHELF:
            _list_samples(console, stock, place.path)
        elif shelf == MODEL_SHELF:
            _list_leaves(console, stock, rest)
        else:
            raise CommandLineError(f"ls lists shelves, columns and models, found {place.path!r}; try `stock show`")


def list_shelves(console: Console, stock: StockRoom, shelves: Sequence[str]) -> None:
    """Print everything on some shelves of the handle's commit."""
    listed = {shelf: LISTERS[shelf][1](stock) for shelf in shelves}
    if console.json:
        console.document({LISTERS[shelf][0]: [item.document for item in items] for shelf, items in listed.items()})
        return
    for items in listed.values():
        console.lines(iter_table_lines([item.cells for item in items]))


def _list_samples(console: Console, stock: StockRoom, path: str) -> None:
    column, key = split_path(path, list(stock.data))
    if column is None or key is not None:
        raise CommandLineError(f"ls lists a column, found a key after it: {path!r}; `stock show` describes it")
    _list_keys(console, f"data/{column}", list(stock.data[column].keys_as_stored()))


def _list_leaves(console: Console, stock: StockRoom, path: str) -> None:
    from stockroom.cli.model_address import open_part

    place = open_part(stock, path)
    _list_keys(console, place.path, place.state.paths())


def _list_keys(console: Console, path: str, keys: Sequence[int | str]) -> None:
    if console.json:
        console.document({"path": path, "keys": list(keys)})
    else:
        console.lines(format_key(key) for key in keys)
