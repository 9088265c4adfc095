"""`stock checkout`: move HEAD to another branch."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb


@verb(example="stock checkout -b relabel", complete={"name": "refs"})
def checkout(
    console: Console,
    name: Annotated[str, typer.Argument(help="The branch; a tag or commit detaches HEAD.")],
    create: Annotated[bool, typer.Option("-b", help="Create the branch first, at HEAD.")] = False,
) -> None:
    """Move HEAD to a branch, tag or commit; no data is copied."""
    with console.open_stock() as stock:
        stock.checkout(name, create=create)
        branch, commit_id = stock.branch, stock.commit_id
    described = f"branch {branch}" if branch else "no branch"
    console.say(f"{'switched to new' if create else 'switched to'} {described}, at {short_id(commit_id)}")
    console.answer({"branch": branch, "commit": commit_id, "created": create})
