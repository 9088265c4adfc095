"""`stock reset`: discard staged changes, and move the branch if asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.change import Change, changes_document, changes_of_diff, summary_text
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock reset --hard HEAD~1", complete={"ref": "refs"})
def reset(
    console: Console,
    ref: Annotated[str | None, typer.Argument(help="With --hard: where to move the branch; HEAD if left out.")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Move the branch that is checked out, too.")] = False,
) -> None:
    """Drop what is staged, and a merge under way; commits stay as they are. With --hard move the branch to REF."""
    if ref is not None and not hard:
        raise CommandLineError("a branch is moved by --hard only, which also drops what is staged: add it, or no REF")
    with console.open_stock() as stock:
        changes = changes_of_diff(stock.status().changes)
        old = stock.commit_id
        if ref is None:
            stock.reset()
        else:
            stock.reset_to(ref)
        _tell(console, stock, changes, old if ref is not None else None)


def _tell(console: Console, stock: StockRoom, changes: list[Change], old: str | None) -> None:
    dropped = f"dropped: {summary_text(changes)}" if changes else "nothing was staged"
    if old is not None:
        branch_name = f"branch {stock.branch}" if stock.branch else "HEAD"
        dropped += (
            f"; {branch_name} is at {short_id(stock.commit_id)} (was {short_id(old)}), `stock undo` takes that back"
        )
    console.say(dropped)
    console.answer({"dropped": changes_document(changes), "branch": stock.branch, "commit": stock.commit_id})
