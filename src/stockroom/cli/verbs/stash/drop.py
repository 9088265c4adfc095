"""`stock stash drop`: drop a stash.

Kept apart: a verb has a module.
"""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.stashing import StashArgument, dropped_text, stash_document
from stockroom.cli.verb import verb


@verb(example="stock stash drop stash@{1}", complete={"stash": "stashes"})
def drop(console: Console, stash: StashArgument = "stash@{0}") -> None:
    """Drop a stash. Until gc deletes it, its id still shows it."""
    with console.open_stock() as stock:
        dropped = stock.drop_stash(stash)
    console.say(dropped_text(dropped))
    console.answer({"dropped": [stash_document(dropped)]})
