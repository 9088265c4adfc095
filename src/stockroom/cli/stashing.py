"""Stashes as lines and documents, and bringing one back for `stash pop` and `stash apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.merging import tell_conflicts
from stockroom.cli.options import parse_strategy
from stockroom.cli.render.change import changes_document, changes_of_diff, summary_text
from stockroom.cli.render.commit import short_id
from stockroom.errors import MergeConflictError

if TYPE_CHECKING:
    from stockroom import Stash
    from stockroom.cli.console import Console

StashArgument = Annotated[
    str, typer.Argument(metavar="[STASH]", help="stash@{N} or N; stash@{0}, the newest, by default.")
]

IndexOption = Annotated[bool, typer.Option("--index", help="No effect: the changes are staged again in any case.")]


def stash_document(stash: Stash) -> dict[str, object]:
    """Return a stash as JSON."""
    return {"name": stash.name, "id": stash.id, "message": stash.message, "time": stash.time.isoformat()}


def dropped_text(stash: Stash) -> str:
    """Return `dropped stash@{0} (1f2e3d4c5b6a)`."""
    return f"dropped {stash.name} ({short_id(stash.id)})"


def apply_stash(console: Console, name: str, strategy: str | None, choice: list[str] | None, *, drop: bool) -> None:
    """Bring a stash back, and print what is then staged, or the conflicts, which exit with 14."""
    chosen = parse_strategy(strategy, choice)
    with console.open_stock() as stock:
        try:
            applied = stock.apply_stash(name, chosen, drop=drop)
        except MergeConflictError as error:
            tell_conflicts(console, error, branch=stock.branch, commit_id=stock.commit_id, theirs=name)
            raise
        changes = changes_of_diff(stock.status().changes)
    console.say(f"staged: {summary_text(changes)}" if changes else "nothing is staged")
    if drop:
        console.say(dropped_text(applied))
    console.answer({"stash": stash_document(applied), "is_dropped": drop, "changes": changes_document(changes)})
