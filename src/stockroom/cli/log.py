"""`stock log`: the commits that lead to a ref."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.commit_text import commit_document, commit_line, iter_commit_lines, read_names
from stockroom.cli.console import Console
from stockroom.cli.verb import verb
from stockroom.errors import GitError

if TYPE_CHECKING:
    from stockroom import Commit, StockRoom


@verb
def log(
    console: Console,
    ref: Annotated[str, typer.Argument(help="Where to start.")] = "HEAD",
    n: Annotated[int | None, typer.Option("-n", "--max-count", min=0, help="Show at most so many commits.")] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line for each commit.")] = False,
) -> None:
    """Show the commits that lead to a ref, newest first; with git's commit that carries each, if one does."""
    with console.open_stock() as stock:
        commits = stock.log(ref, n)
        carriers = {} if oneline and not console.json else _find_carriers(console, stock)
        if console.json:
            listed = [commit_document(commit) | {"git": carriers.get(commit.id)} for commit in commits]
            console.document({"commits": listed})
        else:
            console.lines(_iter_lines(stock, commits, carriers, oneline=oneline))


def _find_carriers(console: Console, stock: StockRoom) -> Mapping[str, str]:
    try:
        return stock.find_git_commits()
    except GitError as error:
        console.say(f"git's commits are left out: {error}")
        return {}


def _iter_lines(
    stock: StockRoom, commits: Iterator[Commit], carriers: Mapping[str, str], *, oneline: bool
) -> Iterator[str]:
    names = read_names(stock) if sys.stdout.isatty() else {}
    for index, commit in enumerate(commits):
        if oneline:
            yield commit_line(commit, names.get(commit.id, ""))
            continue
        if index:
            yield ""
        yield from iter_commit_lines(commit, names.get(commit.id, ""), carriers.get(commit.id))
