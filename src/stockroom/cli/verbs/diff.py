"""`stock diff`: show the difference between two commits, or between a commit and the stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.change import (
    change_document,
    change_of_record,
    changes_of_diff,
    iter_key_lines,
    iter_stat_lines,
    keys_document,
)
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.content.diff import Diff


@verb(example="stock diff main..dev --stat", complete={"a": "refs", "b": "refs"})
def diff(
    console: Console,
    a: Annotated[str | None, typer.Argument(metavar="[A[..B]]", help="The old side; HEAD by default.")] = None,
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The new side; the stage by default.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Show only the paths that differ.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Show only counts.")] = False,
) -> None:
    """Show the difference between two commits.

    Samples of columns, leaves of models and points of metrics are added (+), removed (-) or changed (~).
    """
    old, new = split_range(a, b)
    with console.open_stock() as stock:
        difference = stock.diff(old, new)
        console.answer(
            lambda: {"changes": _document(difference, name_only=name_only, stat=stat)},
            _iter_lines(difference, name_only=name_only, stat=stat),
        )
        differs = len(difference) > 0
    if exit_code and differs:
        raise typer.Exit(exit_codes.FAILED)


def split_range(a: str | None, b: str | None) -> tuple[str, str | None]:
    """Return the two sides of `A B` or `A..B`; an empty end of a range is HEAD."""
    if a is None or ".." not in a:
        return a or "HEAD", b
    if "..." in a:
        raise CommandLineError(f"expected A..B, found {a!r}; diffs from the merge base are not supported")
    if b is not None:
        raise CommandLineError(f"expected A..B or A B, found {a!r} and {b!r}")
    old, _, new = a.partition("..")
    return old or "HEAD", new or "HEAD"


def _iter_lines(difference: Diff, *, name_only: bool, stat: bool) -> Iterator[str]:
    if name_only:
        yield from difference
    elif stat:
        yield from iter_stat_lines(changes_of_diff(difference))
    else:
        for path, record in difference.items():
            change = change_of_record(path, record)
            yield f"{path}: {change.kind}, {change.counts_text()}"
            yield from iter_key_lines(record)


def _document(difference: Diff, *, name_only: bool, stat: bool) -> object:
    if name_only:
        return list(difference)
    return {
        path: change_document(change_of_record(path, record)) | ({} if stat else keys_document(record))
        for path, record in difference.items()
    }
