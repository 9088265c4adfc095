"""`stock ls`: list the contents of a commit, the keys of a column, or the leaves of a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, open_part, parse_path_address, split_path, split_shelf
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.contents import LISTERS
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import Column, StockRoom

_PREVIEWS: Final = 20
_WIDTH: Final = 60
_THUMBNAIL: Final = (32, 8)
"""The maximum columns and lines of a picture."""


@verb(example="stock ls v1:data/image --preview -n 5", complete={"address": "addresses"})
def ls(
    console: Console,
    address: Annotated[
        str,
        typer.Argument(metavar="[REV:][SHELF[/NAME]]", help="Such as data, data/image, model, model/resnet, metric."),
    ] = "HEAD:",
    preview: Annotated[
        bool, typer.Option("--preview", help="Show each key with a preview of its sample; 20 keys by default.")
    ] = False,
    n: Annotated[int | None, typer.Option("-n", "--max-count", min=0, help="List at most this many keys.")] = None,
) -> None:
    """List the content of a commit, column or model."""
    parsed = parse_path_address(address)
    with console.open_stock(parsed.ref) as stock:
        shelf, rest = split_shelf(parsed.path) if parsed.path else ("", "")
        if preview and not (shelf == DATA_SHELF and rest):
            raise CommandLineError("--preview needs a column, such as data/image")
        if not rest:
            list_shelves(console, stock, [shelf] if shelf else list(LISTERS))
        elif shelf == DATA_SHELF:
            _list_samples(console, stock, parsed.path, preview=preview, n=n)
        elif shelf == MODEL_SHELF:
            _list_leaves(console, stock, rest, n=n)
        else:
            raise CommandLineError(f"ls expects a shelf, column or model, found {parsed.path!r}; `stock show` shows it")


def list_shelves(console: Console, stock: StockRoom, shelves: Sequence[str]) -> None:
    """Print everything on the given shelves of the handle's commit."""
    listed = {shelf: LISTERS[shelf][1](stock) for shelf in shelves}
    console.answer(
        {LISTERS[shelf][0]: [item.document for item in items] for shelf, items in listed.items()},
        (line for items in listed.values() for line in iter_table_lines([item.cells for item in items])),
    )


def _list_samples(console: Console, stock: StockRoom, path: str, *, preview: bool, n: int | None) -> None:
    name, key = split_path(path, list(stock.data))
    if name is None or key is not None:
        raise CommandLineError(f"ls expects a column, found a sample: {path!r}; `stock show` shows it")
    column = stock.data[name]
    if preview:
        _list_looks(console, column, n=n)
    else:
        _list_keys(console, f"data/{name}", list(islice(column.keys_as_stored(), n)))


def _list_leaves(console: Console, stock: StockRoom, path: str, *, n: int | None) -> None:
    part = open_part(stock, path)
    _list_keys(console, part.path, part.state.paths()[:n])


def _list_keys(console: Console, path: str, keys: Sequence[int | str]) -> None:
    console.answer({"path": path, "keys": keys}, map(format_key, keys))


def _list_looks(console: Console, column: Column, *, n: int | None) -> None:
    """Print the first `n` keys (None: 20) with their samples: pictures if colors are on, otherwise a few words."""
    from stockroom.cli.render.sample import describe_shortly, draw_look  # here for start-up time

    keys = list(islice(column.keys_as_stored(), _PREVIEWS if n is None else n))
    if console.json:
        looks = [{"key": key, "look": describe_shortly(column[key], width=_WIDTH)} for key in keys]
        console.document({"path": f"data/{column.name}", "samples": looks})
        return
    columns, lines = _THUMBNAIL
    for key in keys:
        sample = column[key]
        drawn = draw_look(sample, columns=columns, lines=lines) if console.has_colours else []
        console.line(format_key(key) if drawn else f"{format_key(key)}  {describe_shortly(sample, width=_WIDTH)}")
        console.draw(drawn)
    if n is None and len(column) > len(keys):
        console.say(f"and {len(column) - len(keys)} more; -n shows more")
