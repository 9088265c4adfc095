"""`stock push`: push a branch or tag to a remote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.options import RemoteArgument
from stockroom.cli.render.operation import format_move, move_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import RemoteRepairReport


@verb(example="stock push origin main", complete={"remote": "remotes", "ref": "refs"})
def push(
    console: Console,
    remote: RemoteArgument = "origin",
    ref: Annotated[
        str | None, typer.Argument(help="A branch or tag; the current branch by default; :NAME deletes it there.")
    ] = None,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Move the remote's branch even if it loses commits.")
    ] = False,
    tags: Annotated[bool, typer.Option("--tags", help="Push all tags too.")] = False,
    allow_new_remote: Annotated[
        bool, typer.Option("--allow-new-remote", help="Start a new remote if the one there before is gone.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="First verify the remote, and resend damaged or lost parts.")
    ] = False,
) -> None:
    """Push a branch or tag to a remote. Only content that the remote lacks is sent."""
    repaired = _repair(console, remote) if repair else None
    with console.open_stock() as stock, console.transfer("push") as show:
        report = stock.push(remote, ref, force, tags=tags, allow_new_remote=allow_new_remote, on_progress=show)
    moved = [move_document(update.ref, update.old, update.new) for update in report.moved]
    document = {"remote": report.remote, "moved": moved, "packs": report.packs, "nbytes": report.nbytes}
    console.answer(document if repaired is None else document | {"repair": asdict(repaired)})
    for update in report.moved:
        console.say(format_move(update.ref, update.old, update.new))
    sent = f"{format_count(report.packs, 'pack')}, {format_nbytes(report.nbytes)} sent to {report.remote}"
    console.say(sent if report.moved else "everything up to date")
    if repaired is not None and not repaired.ok:
        raise typer.Exit(exit_codes.CORRUPTION if repaired.left else exit_codes.UNREADABLE)


def _repair(console: Console, remote: str) -> RemoteRepairReport:
    """Repair a remote, and print its damage and the repairs."""
    with console.open_stock(needs_head=False) as stock, console.progress("verify") as progress:
        report = stock.repair_remote(remote, on_verify=lambda done, total: progress.update("packs", done, total=total))
    for line in (*report.done, *(f"still damaged: {damage}" for damage in report.left), *map(str, report.unchecked)):
        console.say(line)
    console.say(f"{format_count(len(report.found), 'problem')} found on {remote}, {len(report.left)} left")
    return report
