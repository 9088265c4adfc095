"""`stock checkout`: move HEAD to another branch."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb


@verb(example="stock checkout -b relabel v1", complete={"name": "refs", "start": "refs"})
def checkout(
    console: Console,
    name: Annotated[
        str | None, typer.Argument(help="The branch; a tag or commit detaches HEAD; - is the previous one.")
    ] = None,
    start: Annotated[str | None, typer.Argument(help="With -b: the commit to start at; HEAD by default.")] = None,
    create: Annotated[bool, typer.Option("-b", help="Create the branch first, at START.")] = False,
    recreate: Annotated[bool, typer.Option("-B", help="Create the branch, or move it if it exists.")] = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Leave the branch, and stay at its commit.")] = False,
) -> None:
    """Move HEAD to a branch, tag or commit; no data is copied."""
    creates = create or recreate
    if (start is not None and not creates) or (creates and detach):
        raise CommandLineError("START needs -b or -B, which cannot be combined with --detach")
    if name is None and not detach:
        raise CommandLineError("expected a branch, tag or commit, found none; `stock branch` lists the branches")
    with console.open_stock() as stock:
        old = stock.branch, stock.commit_id
        stock.checkout(name or "HEAD", create=creates, at=start, force=recreate, detach=detach)
        branch, commit_id = stock.branch, stock.commit_id
    described = f"branch {branch}" if branch else "no branch"
    switched = "already on" if old == (branch, commit_id) else "switched to"
    console.say(f"{'switched to new' if creates else switched} {described}, at {short_id(commit_id)}")
    console.answer({"branch": branch, "commit": commit_id, "created": creates})
