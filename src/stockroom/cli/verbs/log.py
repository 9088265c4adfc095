"""`stock log`: show the commits reachable from a ref."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.commit import commit_document, commit_line, iter_commit_lines, read_names
from stockroom.cli.render.commit_graph import CommitGraph
from stockroom.cli.render.position import choose_log_start
from stockroom.cli.verb import verb
from stockroom.errors import GitError

if TYPE_CHECKING:
    from stockroom import Commit, StockRoom


@verb(example="stock log --oneline -n 20", complete={"ref": "refs"})
def log(
    console: Console,
    ref: Annotated[
        str | None, typer.Argument(help="The newest commit to show; by default that of the current branch.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", "--max-count", min=0, help="Show at most this many commits.")] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="Print one line per commit.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Draw the commit graph.")] = False,
) -> None:
    """Show the commits reachable from a ref, newest first.

    Each commit is shown with its carrier, the first git commit that names it.
    """
    with console.open_stock() as stock:
        commits = stock.log(ref or choose_log_start(stock), n)
        carriers = {} if oneline and not console.json else _read_carriers(console, stock)
        names = read_names(stock) if sys.stdout.isatty() and not console.json else {}
        texts = ((commit, _describe(commit, names, carriers, oneline=oneline)) for commit in commits)
        console.answer(
            lambda: {"commits": [commit_document(commit) | {"git": carriers.get(commit.id)} for commit in commits]},
            _draw(texts, oneline=oneline) if graph else _list(texts, oneline=oneline),
        )


def _read_carriers(console: Console, stock: StockRoom) -> Mapping[str, str]:
    try:
        return stock.list_git_commits()
    except GitError as error:
        console.say(f"git's commits are not shown: {error}")
        return {}


def _describe(commit: Commit, names: Mapping[str, str], carriers: Mapping[str, str], *, oneline: bool) -> list[str]:
    refs = names.get(commit.id, "")
    return [commit_line(commit, refs)] if oneline else list(iter_commit_lines(commit, refs, carriers.get(commit.id)))


def _list(texts: Iterable[tuple[Commit, list[str]]], *, oneline: bool) -> Iterator[str]:
    for number, (_, lines) in enumerate(texts):
        if number and not oneline:
            yield ""
        yield from lines


def _draw(texts: Iterable[tuple[Commit, list[str]]], *, oneline: bool) -> Iterator[str]:
    graph = CommitGraph()
    for commit, lines in texts:
        yield from graph.draw(commit.id, commit.parents, lines if oneline else [*lines, ""])
