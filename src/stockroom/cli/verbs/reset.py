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
    ref: Annotated[str | None, typer.Argument(help="With --hard: the commit to move to; HEAD by default.")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Also move the current branch.")] = False,
) -> None:
    """Discard staged changes and a merge in progress. With --hard, also move the branch to REF."""
    if ref is not None and not hard:
        raise CommandLineError("REF needs --hard, which moves the branch and discards staged changes")
    with console.open_stock() as stock:
        changes = changes_of_diff(stock.status().changes)
        old = stock.commit_id
        if ref is None:
            stock.reset()
        else:
            stock.reset_to(ref)
        _tell(console, stock, changes, old, is_moved=ref is not None)


def _tell(console: Console, stock: StockRoom, changes: list[Change], old: str | None, *, is_moved: bool) -> None:
    dropped = f"discarded: {summary_text(changes)}" if changes else "nothing was staged"
    if changes and not is_moved:
        dropped += "; `stock undo` restores them"
    if is_moved:
        branch_name = f"branch {stock.branch}" if stock.branch else "HEAD"
        was = "at no commit" if old is None else short_id(old)
        dropped += f"; {branch_name} is at {short_id(stock.commit_id)} (was {was}), `stock undo` restores that"
    console.say(dropped)
    console.answer({"dropped": changes_document(changes), "branch": stock.branch, "commit": stock.commit_id})
