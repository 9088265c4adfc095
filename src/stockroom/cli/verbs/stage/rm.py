"""`stock rm`: stage the removal of columns, models and other things."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb(example="stock rm data/label/17 model/old", complete={"paths": "addresses"})
def rm(
    console: Console,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Such as data/label, data/label/17, model/net, or a folder with -r."),
    ],
    recursive: Annotated[bool, typer.Option("-r", help="Remove everything below a folder.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Remove what has staged changes, too.")] = False,
    cached: Annotated[bool, typer.Option("--cached", help="The same as -f: only the stage is changed.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only print what would be removed.")] = False,
    ignore_unmatch: Annotated[
        bool, typer.Option("--ignore-unmatch", help="Succeed even if nothing matches a path.")
    ] = False,
) -> None:
    """Stage the removal of columns, models, values, metrics, artifacts or single samples."""
    with console.open_stock() as stock:
        removed = stock.rm(
            *paths, recursive=recursive, force=force or cached, dry_run=dry_run, missing_ok=ignore_unmatch
        )
    console.answer({"removed": list(removed), "dry_run": dry_run}, (f"rm '{path}'" for path in removed))
