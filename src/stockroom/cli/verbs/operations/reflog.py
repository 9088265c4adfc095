"""`stock reflog`: show the operation log, every change of a ref."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.operation import operation_document, operation_line
from stockroom.cli.verb import verb


@verb(example="stock reflog")
def reflog(
    console: Console,
    n: Annotated[
        int | None, typer.Option("-n", "--max-count", min=0, help="Show at most this many operations.")
    ] = None,
) -> None:
    """Show every change of a branch or tag, newest first."""
    with console.open_stock() as stock:
        operations = islice(stock.operations(), n)
        console.answer(
            lambda: {"operations": list(map(operation_document, operations))}, map(operation_line, operations)
        )
