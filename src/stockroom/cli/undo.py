"""`stock undo`: take back the last change of a ref."""

from __future__ import annotations

from stockroom.cli.commit_text import short_id
from stockroom.cli.console import Console
from stockroom.cli.operation_text import operation_document
from stockroom.cli.verb import verb


@verb
def undo(console: Console) -> None:
    """Take back the last commit, or the last making, moving or deleting of a branch or tag."""
    with console.open_stock() as stock:
        stock.undo()
        done = next(iter(stock.operations()))
    console.say(f"{done.ref}: {short_id(done.old)} -> {short_id(done.new)}")
    if console.json:
        console.document({"operation": operation_document(done)})
