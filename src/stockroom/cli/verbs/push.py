"""`stock push`: push a branch or tag to a remote."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.options import RemoteArgument
from stockroom.cli.render.operation import format_move, move_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb


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
        bool, typer.Option("--allow-new-remote", help="Begin a new remote where the one seen before has vanished.")
    ] = False,
) -> None:
    """Push a branch or tag to a remote. Only content that the remote lacks is sent."""
    with console.open_stock() as stock, console.transfer("push") as show:
        report = stock.push(remote, ref, force, tags=tags, allow_new_remote=allow_new_remote, on_progress=show)
    moved = [move_document(update.ref, update.old, update.new) for update in report.moved]
    console.answer({"remote": report.remote, "moved": moved, "packs": report.packs, "nbytes": report.nbytes})
    for update in report.moved:
        console.say(format_move(update.ref, update.old, update.new))
    sent = f"{format_count(report.packs, 'pack')}, {format_nbytes(report.nbytes)} sent to {report.remote}"
    console.say(sent if report.moved else "everything up to date")
