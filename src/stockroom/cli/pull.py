"""`stock pull`: fetch, and bring the branch that is checked out along."""

from __future__ import annotations

from stockroom.cli.commit_text import short_id
from stockroom.cli.console import Console
from stockroom.cli.fetch import fetch_document, tell_fetch
from stockroom.cli.transfer import RemoteArgument, watch_transfer
from stockroom.cli.verb import verb


@verb
def pull(console: Console, remote: RemoteArgument = "origin") -> None:
    """Fetch, then bring the branch that is checked out to where the remote has it."""
    with console.open_stock() as stock, watch_transfer(console, "pull") as show:
        report = stock.pull(remote, on_progress=show)
    old, new = (None if at is None else at.hex() for at in (report.old, report.new))
    if console.json:
        console.document({**fetch_document(report.fetched), "branch": report.branch, "old": old, "new": new})
        return
    tell_fetch(console, report.fetched)
    moved = f"{report.branch} is now at {short_id(new)}" if new and new != old else "already up to date"
    console.say(moved)
