"""`stock drop`: free disk space of packs that a remote holds."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.units import format_count, format_nbytes, parse_nbytes
from stockroom.cli.verb import verb


@verb(example="stock drop data/image --dry-run", complete={"path": "addresses"})
def drop(
    console: Console,
    path: Annotated[
        str | None, typer.Argument(help="The column or model whose packs to drop, such as data/image.")
    ] = None,
    to_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Drop until all packs take at most SIZE, such as 10GiB.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Drop every pack that a remote holds.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only print how much would be freed.")] = False,
) -> None:
    """Drop packs to free disk space; reading fetches them again.

    Only packs with a sound copy on a remote are dropped.
    """
    if path is None and to_size is None and not all_:
        raise CommandLineError("expected a column or model, --to-size or --all, found none of them")
    keep_nbytes = None if to_size is None else parse_nbytes(to_size)
    with console.open_stock() as stock, console.transfer("drop") as show:
        report = stock.drop(path, keep_nbytes=keep_nbytes, dry_run=dry_run, on_progress=show)
    done = "would free" if dry_run else "freed"
    console.answer(
        {"packs": report.packs, "nbytes": report.nbytes, "kept": report.kept, "dry_run": dry_run},
        [f"{done} {format_nbytes(report.nbytes)} of {format_count(report.packs, 'pack')}"],
    )
    if report.kept:
        console.say(
            f"kept {format_count(report.kept, 'pack')} without a sound copy on a remote: push first (`--repair`)"
        )
