"""`stock stash list`: list the stashes.

Kept apart: a verb has a module.
"""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.stashing import stash_document
from stockroom.cli.verb import verb


@verb(example="stock stash list")
def list(console: Console) -> None:
    """List the stashes, newest first."""
    with console.open_stock() as stock:
        stashes = stock.stashes
    console.answer(
        {"stashes": [stash_document(stash) for stash in stashes]},
        (f"{stash.name}: {stash.message}" for stash in stashes),
    )
