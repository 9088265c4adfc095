"""`stock pull`: fetch, and update the branch that is checked out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.merging import tell_conflicts
from stockroom.cli.options import ChoiceOption, RemoteArgument, StrategyOption, parse_strategy
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb
from stockroom.cli.verbs.fetch import fetch_document, tell_fetch
from stockroom.errors import MergeConflictError

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock pull origin", complete={"remote": "remotes"})
def pull(
    console: Console,
    remote: RemoteArgument = None,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[BRANCH]", help="Its branch; by default the upstream, or the one of the same name."),
    ] = None,
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
    ff_only: Annotated[bool, typer.Option("--ff-only", help="Fast-forward, or refuse to merge.")] = False,
) -> None:
    """Fetch, then fast-forward or merge the current branch."""
    chosen = parse_strategy(strategy, choice)
    with console.open_stock(needs_head=False) as stock:
        branch, at = stock.branch, stock.commit_id
        try:
            with console.transfer("pull") as show:
                report = stock.pull(remote, source, strategy=chosen, ff_only=ff_only, on_progress=show)
        except MergeConflictError as error:
            tell_conflicts(console, error, branch=branch, commit_id=at, theirs=_name_theirs(stock, remote, source))
            raise
    old, new = (None if commit is None else commit.hex() for commit in (report.old, report.new))
    moved = {"branch": report.branch, "old": old, "new": new, "outcome": report.outcome}
    console.answer({**fetch_document(report.fetched), **moved})
    tell_fetch(console, report.fetched)
    if report.outcome == "up to date":
        console.say("already up to date")
    else:
        how = "merged: " if report.outcome == "merged" else ""
        console.say(f"{how}{report.branch} is now at {short_id(new)}")


def _name_theirs(stock: StockRoom, remote: str | None, source: str | None) -> str:
    """Return the remote-tracking branch that a pull merges."""
    upstream = stock.find_upstream() or f"origin/{stock.branch}"
    if remote is None and source is None:
        return upstream
    return f"{remote or upstream.partition('/')[0]}/{source or upstream.partition('/')[2]}"
