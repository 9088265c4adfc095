"""`stock mv`: stage a rename.

Kept apart: a verb has a module.
"""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb(example="stock mv data/lable data/label", complete={"old": "addresses", "new": "addresses"})
def mv(
    console: Console,
    old: Annotated[str, typer.Argument(help="Such as data/label, model/net, data/label/17, or a folder.")],
    new: Annotated[str, typer.Argument(help="The new path, or an existing folder to move into.")],
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace what has the new name.")] = False,
) -> None:
    """Stage a rename of a column, model or other thing, or of a key in its column. No sample is written."""
    with console.open_stock() as stock:
        moved = stock.mv(old, new, force=force)
    console.say("; ".join(f"{before} -> {after}" for before, after in moved))
    console.answer({"moved": [{"old": before, "new": after} for before, after in moved]})
