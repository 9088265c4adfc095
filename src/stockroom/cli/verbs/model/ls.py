"""`stock model ls`: list the models of a commit."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.model import model_cells, model_document
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb


@verb(example="stock model ls v1")
def ls(console: Console, ref: Annotated[str, typer.Argument(metavar="[REV]", help="The commit.")] = "HEAD") -> None:
    """List models with their leaves, size and metadata."""
    with console.open_stock(ref.removesuffix(":") or "HEAD") as stock:
        models = list(stock.model.values())
        console.answer(
            lambda: {"models": [model_document(state) for state in models]},
            lambda: iter_table_lines([(format_key(state.name), *model_cells(state)) for state in models]),
        )
