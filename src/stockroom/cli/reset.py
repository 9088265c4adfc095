"""`stock reset`: drop what is staged."""

from __future__ import annotations

from stockroom.cli.change_text import changes_document, changes_of_diff, summary_text
from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb
def reset(console: Console) -> None:
    """Drop what is staged; commits stay as they are."""
    with console.open_stock() as stock:
        changes = changes_of_diff(stock.status().changes)
        stock.reset()
    console.say(f"dropped: {summary_text(changes)}" if changes else "nothing was staged")
    if console.json:
        console.document({"dropped": changes_document(changes)})
