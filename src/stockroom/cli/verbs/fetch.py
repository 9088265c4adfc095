"""`stock fetch`: fetch a remote's new history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.options import RemoteArgument
from stockroom.cli.render.operation import format_move, move_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.remotes.fetch import FetchReport


@verb(example="stock fetch origin", complete={"remote": "remotes"})
def fetch(
    console: Console,
    remote: RemoteArgument = "origin",
    prune: Annotated[bool, typer.Option("--prune", help="Delete branches that the remote no longer has.")] = False,
) -> None:
    """Fetch a remote's new history and metadata. Samples are fetched when they are read."""
    with console.open_stock(needs_head=False) as stock, console.transfer("fetch") as show:
        report = stock.fetch(remote, prune=prune, on_progress=show)
    console.answer(fetch_document(report))
    tell_fetch(console, report)
    if not report.moved:
        console.say("already up to date")


def tell_fetch(console: Console, report: FetchReport) -> None:
    """Print the result of a fetch."""
    for move in report.moved:
        console.say(format_move(*move))
    if report.commits:
        console.say(f"{format_count(report.commits, 'commit')} ({format_nbytes(report.nbytes)}) from {report.remote}")
    tell_left_out(console, report.remote, report.left_out)
    if report.leaving:
        console.say(
            f"warning: the remote will remove {format_count(report.leaving, 'pack')} that your branches, tags or "
            "staged changes need and that are not all present: push them, or fetch them with `stock prefetch`"
        )


def tell_left_out(console: Console, remote: str, left_out: Iterable[tuple[str, str]]) -> None:
    """Print the refs of a remote that were not taken in."""
    for ref, other in left_out:
        kind, _, name = ref.partition("/")
        console.say(
            f"warning: left out {kind} {name} of {remote}: it differs from {other} only in case or accents' form; "
            f"rename one of them there (if {other} is gone there, `stock fetch --prune` forgets it)"
        )


def fetch_document(report: FetchReport) -> dict[str, object]:
    """Return the result of a fetch as JSON."""
    return {
        "remote": report.remote,
        "moved": [move_document(*move) for move in report.moved],
        "commits": report.commits,
        "objects": report.objects,
        "packs": report.packs,
        "nbytes": report.nbytes,
        "leaving": report.leaving,
        "left_out": [{"ref": ref, "other": other} for ref, other in report.left_out],
    }
