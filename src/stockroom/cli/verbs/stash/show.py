"""`stock stash show`: show the changes in a stash."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.change import (
    change_document,
    change_of_record,
    changes_of_diff,
    iter_record_lines,
    iter_stat_lines,
    keys_document,
)
from stockroom.cli.stashing import StashArgument, stash_document
from stockroom.cli.verb import verb


@verb(example="stock stash show -p", complete={"stash": "stashes"})
def show(
    console: Console,
    stash: StashArgument = "stash@{0}",
    patch: Annotated[bool, typer.Option("-p", "--patch", help="Show the keys that changed.")] = False,
) -> None:
    """Show the changes in a stash."""
    with console.open_stock() as stock:
        found = stock.get_stash(stash)
        diff = stock.changes(found.id)
        changes = {
            path: change_document(change_of_record(path, record)) | (keys_document(record) if patch else {})
            for path, record in diff.items()
        }
        lines = (
            [line for path, record in diff.items() for line in iter_record_lines(path, record)]
            if patch
            else iter_stat_lines(changes_of_diff(diff))
        )
        console.answer({"stash": stash_document(found), "changes": changes}, lines)
