"""`stock blame`: show the commit that last changed each key of a column, metric or model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockroom.cli.address import parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import commit_document, short_id, subject_of
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import BlameLine

_MOST: Final = 1000


@verb(example="stock blame data/label/17", complete={"words": "addresses"}, paths=True)
def blame(
    console: Console,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV:]PATH | [REV] -- PATH",
            help="Such as data/label, data/label/17, model/net, experiment/lr; REV is HEAD by default.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--max-count", min=1, help="Show at most this many keys.")] = _MOST,
    paths: Sequence[str] | None = None,
) -> None:
    """Show the commit that last changed each key.

    A value or an artifact has one line, a column, metric or model one for each key. No sample is read.
    """
    ref, path = _parse_words(words or [], paths)
    with console.open_stock() as stock:
        lines = stock.blame(path, ref, limit=n + 1)
        shown = lines[:n]
        console.answer(
            lambda: {"lines": [_document(line) for line in shown], "is_complete": len(lines) <= n},
            iter_table_lines([_cells(line) for line in shown]),
        )
    if len(lines) > n:
        console.say(f"only the first {n} keys are shown; -n shows more")


def _parse_words(words: Sequence[str], paths: Sequence[str] | None) -> tuple[str, str]:
    """Return the revision and the path of `PATH`, `REV:PATH`, `REV PATH` or `REV -- PATH`."""
    if paths is None and len(words) == 1:
        address = parse_path_address(words[0])
        return address.ref, address.path
    if paths is None and len(words) == 2:
        return words[0], words[1]
    if paths is None or len(paths) != 1 or len(words) > 1:
        raise CommandLineError("expected one path, such as data/label, with at most one commit before it")
    return (words[0] if words else "HEAD"), paths[0]


def _cells(line: BlameLine) -> tuple[str, ...]:
    commit = line.commit
    place = line.path if line.key is None else f"{line.path}/{format_key(line.key)}"
    return short_id(commit.id), commit.author, f"{commit.time:%Y-%m-%d %H:%M:%S %z}", place, subject_of(commit.message)


def _document(line: BlameLine) -> dict[str, object]:
    return {"path": line.path, "key": line.key, "commit": commit_document(line.commit)}
