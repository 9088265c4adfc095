"""`stock diff`: show the difference between two commits, or between a commit and the stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.change import (
    change_document,
    change_of_record,
    changes_of_diff,
    iter_record_lines,
    iter_stat_lines,
    keys_document,
    status_letter,
)
from stockroom.cli.revisions import split_words
from stockroom.cli.verb import verb
from stockroom.refs import split_range as split_ends

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.content.diff import Diff


@verb(example="stock diff main..dev --stat -- data/label", complete={"words": "words"}, paths=True)
def diff(
    console: Console,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[A[..B] | A B] [-- PATH...]",
            help="The old side, HEAD by default, and the new side, the stage by default. A...B compares B with the "
            "commit where it parted from A. After --: only these paths, such as data/label.",
        ),
    ] = None,
    cached: Annotated[
        bool, typer.Option("--cached", "--staged", help="Compare A with the stage, as without B.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Show only the paths that differ.")] = False,
    name_status: Annotated[bool, typer.Option("--name-status", help="Show only A, D or M and the paths.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Show only counts.")] = False,
    paths: Sequence[str] | None = None,
) -> None:
    """Show the difference between two commits, or between a commit and the stage.

    Samples of columns, leaves of models and points of metrics are added (+), removed (-) or changed (~).
    """
    with console.open_stock() as stock:
        revisions, limits = split_words(stock, words or [], paths)
        old, new = _choose_sides(stock, revisions)
        if cached and new is not None:
            raise CommandLineError(f"--cached compares one commit with the stage, found {' '.join(revisions)}")
        difference = stock.diff(old, new, paths=limits)
        console.answer(
            lambda: {"changes": _document(difference, name_only=name_only, stat=stat or name_status)},
            _iter_status_lines(difference) if name_status else _iter_lines(difference, name_only=name_only, stat=stat),
        )
        differs = len(difference) > 0
    if exit_code and differs:
        raise typer.Exit(exit_codes.FAILED)


def _choose_sides(stock: StockRoom, revisions: Sequence[str]) -> tuple[str, str | None]:
    """Return the old side, and the new one, None for the stage."""
    if len(revisions) > 2:
        raise CommandLineError(f"expected at most two commits, found {' '.join(revisions)}")
    first, second = [*revisions, None, None][:2]
    if first is not None and second is None and "..." in first:
        ends = split_ends(first)
        assert ends is not None
        return stock.get_merge_base(ends[0], ends[1]), ends[1]
    return split_range(first, second)


def split_range(a: str | None, b: str | None) -> tuple[str, str | None]:
    """Return the two sides of `A B` or `A..B`; an empty end of a range is HEAD."""
    if a is None or ".." not in a:
        return a or "HEAD", b
    if "..." in a:
        raise CommandLineError(f"expected A..B, found {a!r}")
    if b is not None:
        raise CommandLineError(f"expected A..B or A B, found {a!r} and {b!r}")
    old, _, new = a.partition("..")
    return old or "HEAD", new or "HEAD"


def _iter_status_lines(difference: Diff) -> Iterator[str]:
    """Yield `M<tab>data/label`, as git does."""
    yield from (f"{status_letter(record.kind)}\t{path}" for path, record in difference.items())


def _iter_lines(difference: Diff, *, name_only: bool, stat: bool) -> Iterator[str]:
    if name_only:
        yield from difference
    elif stat:
        yield from iter_stat_lines(changes_of_diff(difference))
    else:
        for path, record in difference.items():
            yield from iter_record_lines(path, record)


def _document(difference: Diff, *, name_only: bool, stat: bool) -> object:
    if name_only:
        return list(difference)
    return {
        path: change_document(change_of_record(path, record)) | ({} if stat else keys_document(record))
        for path, record in difference.items()
    }
