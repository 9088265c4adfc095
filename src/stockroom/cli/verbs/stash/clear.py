"""`stock stash clear`: drop all stashes.

Kept apart: a verb has a module.
"""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.stashing import dropped_text, stash_document
from stockroom.cli.verb import verb


@verb(example="stock stash clear")
def clear(console: Console) -> None:
    """Drop all stashes."""
    with console.open_stock() as stock:
        dropped = stock.clear_stashes()
    for stash in dropped:
        console.say(dropped_text(stash))
    console.answer({"dropped": [stash_document(stash) for stash in dropped]})
