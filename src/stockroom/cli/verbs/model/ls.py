"""`stock model ls`: the models of a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.model import model_cells, model_document
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock model ls v1")
def ls(console: Console, ref: Annotated[str, typer.Argument(metavar="[REV]", help="Which commit.")] = "HEAD") -> None:
    """List the models with leaves, size and metadata."""
    with console.open_stock(ref.removesuffix(":") or "HEAD") as stock:
        list_models(console, stock)


def list_models(console: Console, stock: StockRoom) -> None:
    """Print every model of the handle's commit."""
    models = list(stock.model.values())
    if console.json:
        console.document({"models": [model_document(state) for state in models]})
    else:
        console.lines(iter_table_lines([(format_key(state.name), *model_cells(state)) for state in models]))
