"""`stock fetch`: fetch a remote's new history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import RemoteArgument
from stockroom.cli.render.operation import format_move, move_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.remotes.fetch import FetchReport


@verb(example="stock fetch origin", complete={"remote": "remotes"})
def fetch(
    console: Console,
    remote: RemoteArgument = None,
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF]...", help="Branches or tags of the remote; all that this clone follows."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Fetch every remote.")] = False,
    prune: Annotated[
        bool, typer.Option("-p", "--prune", help="Delete branches that the remote no longer has.")
    ] = False,
    prune_tags: Annotated[
        bool, typer.Option("-P", "--prune-tags", help="Delete tags that the remote does not have, yours too.")
    ] = False,
    tags: Annotated[
        bool, typer.Option("-t", "--tags", help="Fetch all tags, whatever they name; fail if one would move here.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Move tags that the remote moved.")] = False,
    depth: Annotated[int | None, typer.Option(min=1, help="Keep only this many commits of each branch.")] = None,
    deepen: Annotated[int | None, typer.Option(min=1, help="Fetch this many more commits of a shallow clone.")] = None,
    unshallow: Annotated[bool, typer.Option("--unshallow", help="Fetch the whole history of a shallow clone.")] = False,
) -> None:
    """Fetch a remote's new history and metadata. Samples are fetched when they are read."""
    if all_ and (remote is not None or refs):
        raise CommandLineError("--all fetches every remote: it cannot be combined with a remote")
    options: dict[str, Any] = {"prune": prune, "prune_tags": prune_tags, "tags": tags, "force": force}
    options |= {"depth": depth, "deepen": deepen, "unshallow": unshallow}
    with console.open_stock(needs_head=False) as stock, console.transfer("fetch") as show:
        names = list(stock.remotes) if all_ else [remote]
        reports = [stock.fetch(name, refs or None, **options, on_progress=show) for name in names]
    documents = [fetch_document(report) for report in reports]
    console.answer({"remotes": documents} if all_ else documents[0])
    for report in reports:
        tell_fetch(console, report)
    if not any(report.moved or report.commits or report.shallow is not None for report in reports):
        console.say("already up to date")
    if tags and any(report.rejected for report in reports):
        raise typer.Exit(exit_codes.CONFLICT)


def tell_fetch(console: Console, report: FetchReport) -> None:
    """Print the result of a fetch."""
    for move in report.moved:
        console.say(format_move(*move))
    if report.commits:
        console.say(f"{format_count(report.commits, 'commit')} ({format_nbytes(report.nbytes)}) from {report.remote}")
    if report.shallow is not None:
        cut = f"this clone's history is cut at {format_count(report.shallow, 'commit')}"
        console.say(cut if report.shallow else "this clone has the whole history")
    tell_left_out(console, report.remote, report.left_out)
    for name, here, there in report.rejected:
        console.say(
            f"{name}  rejected: {report.remote} has this tag at {there.hex()[:12]}, here it is at {here.hex()[:12]}; "
            "`stock fetch --force` moves it"
        )
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
        "shallow": report.shallow,
        "rejected": [
            {"ref": f"tag/{tag.name}", "here": tag.here.hex(), "there": tag.there.hex()} for tag in report.rejected
        ],
    }
