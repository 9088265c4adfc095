"""`stock stash push`, and `stock stash` alone: put staged changes aside."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.stashing import stash_document
from stockroom.cli.verb import verb


@verb(example="stock stash push -m 'Half done' -- data/label", complete={"paths": "addresses"})
def push(
    console: Console,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[[--] PATH...]", help="Only the changes there, such as data/label or data/label/17."),
    ] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="What to remember about them.")] = None,
) -> None:
    """Put staged changes aside; the stage is then as HEAD. `stock stash pop` brings them back."""
    with console.open_stock() as stock:
        pushed = stock.stash(message, paths=paths or ())
    console.say("no staged changes to put aside" if pushed is None else f"put aside: {pushed.message}")
    console.answer({"stash": None if pushed is None else stash_document(pushed)})
