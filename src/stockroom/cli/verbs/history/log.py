"""`stock log`: show the commits reachable from some refs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.change import (
    change_document,
    change_of_record,
    iter_record_lines,
    iter_stat_lines,
    keys_document,
)
from stockroom.cli.render.commit import commit_document, commit_line, iter_commit_lines, read_names
from stockroom.cli.render.commit_graph import CommitGraph
from stockroom.cli.render.position import choose_log_start
from stockroom.cli.revisions import parse_time, split_words
from stockroom.cli.verb import verb
from stockroom.errors import GitError

if TYPE_CHECKING:
    from stockroom import Commit, StockRoom
    from stockroom.content.diff import Diff


@dataclass(frozen=True, slots=True)
class Shown:
    """What a log shows of each commit besides its description; a merge's changes are not shown, as in git."""

    oneline: bool
    patch: bool
    stat: bool
    name_only: bool

    @property
    def has_changes(self) -> bool:
        """Whether the changes of each commit are shown in some form."""
        return self.patch or self.stat or self.name_only

    def iter_lines(self, diff: Diff) -> Iterator[str]:
        """Yield the changes of one commit."""
        if self.name_only:
            yield from diff
        if self.stat:
            yield from iter_stat_lines([change_of_record(path, record) for path, record in diff.items()])
        if self.patch:
            yield from (line for path, record in diff.items() for line in iter_record_lines(path, record))

    def document(self, diff: Diff) -> dict[str, object]:
        """Return the changes of one commit as JSON."""
        return {
            path: change_document(change_of_record(path, record)) | (keys_document(record) if self.patch else {})
            for path, record in diff.items()
        }


@verb(example="stock log --oneline -n 20 main..dev -- data/label", complete={"words": "words"}, paths=True)
def log(
    console: Console,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV]... [-- PATH...]",
            help="Where to begin: commits, A..B for B without A, ^A for not A, A...B for either. After --: only "
            "commits that changed these paths, such as data/label.",
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", "--max-count", min=0, help="Show at most this many commits; -3 is -n 3.")
    ] = None,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Skip this many commits first.")] = 0,
    oneline: Annotated[bool, typer.Option("--oneline", help="Print one line per commit.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Draw the commit graph.")] = False,
    patch: Annotated[bool, typer.Option("-p", "-u", "--patch", help="Show the keys that were changed.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Show counts of the changes of each commit.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Show the paths that each commit changed.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Begin at all branches, tags and remote-tracking ones.")] = False,
    author: Annotated[
        str | None, typer.Option("--author", metavar="PATTERN", help="Only commits by a matching author.")
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="PATTERN", help="Only commits with a matching message.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", "--after", metavar="TIME", help="Only commits since TIME: 2026-11-30, '2 weeks ago'."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", "--before", metavar="TIME", help="Only commits until TIME.")
    ] = None,
    merges: Annotated[bool, typer.Option("--merges", help="Only merges.")] = False,
    no_merges: Annotated[bool, typer.Option("--no-merges", help="No merges.")] = False,
    first_parent: Annotated[
        bool, typer.Option("--first-parent", help="Follow only the first parent of each merge.")
    ] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Show the oldest of the chosen commits first.")] = False,
    topo_order: Annotated[
        bool, typer.Option("--topo-order", help="Do not mix lines of history, as with --graph.")
    ] = False,
    decorate: Annotated[bool, typer.Option("--decorate", help="Show the refs of each commit, in a pipe too.")] = False,
    paths: Sequence[str] | None = None,
) -> None:
    """Show the commits reachable from some commits, newest first.

    Each commit is shown with its carrier, the first git commit that names it.
    """
    from stockroom.shelves.stock.log_choice import LogChoice  # here for start-up time

    if merges and no_merges:
        raise CommandLineError("--merges and --no-merges cannot be combined")
    choice = LogChoice(
        author=author,
        grep=grep,
        since=parse_time(since),
        until=parse_time(until),
        merges=True if merges else False if no_merges else None,
        first_parent=first_parent,
        line_by_line=graph or topo_order,
    )
    shown = Shown(oneline, patch, stat, name_only)
    with console.open_stock() as stock:
        revisions, limits = split_words(stock, words or [], paths)
        starts = revisions or ([] if all_ and stock.commit_id is None else [choose_log_start(stock)])
        found = stock.log(starts, paths=limits, every_ref=all_, choice=choice)
        commits: Iterable[Commit] = islice(found, skip, None if n is None else skip + n)
        commits = reversed(list(commits)) if reverse else commits
        if graph:
            commits = list(commits)
            is_whole = not limits and choice == LogChoice(line_by_line=True) and not any(map(_limits, starts))
            parents = {commit.id: commit.parents for commit in commits}
            if not is_whole:
                shown_ids = {commit.id for commit in stock.log(starts, paths=limits, every_ref=all_, choice=choice)}
                parents = _link(stock.log(starts, every_ref=all_), shown_ids, first_parent=first_parent)
        carriers = {} if oneline and not console.json else _read_carriers(console, stock)
        names = read_names(stock) if (decorate or sys.stdout.isatty()) and not console.json else {}
        read = _make_reader(stock, limits) if shown.has_changes else None
        texts = ((commit, _describe(commit, names, carriers, shown, read)) for commit in commits)
        console.answer(
            lambda: {"commits": [_document(commit, carriers, shown, read) for commit in commits]},
            _draw(texts, parents, oneline=oneline) if graph else _list(texts, oneline=oneline),
        )


def _make_reader(stock: StockRoom, limits: Sequence[str]) -> Callable[[Commit], Diff | None]:
    """Return the function from a commit to its changes at the wanted paths, None for a merge."""
    return lambda commit: None if len(commit.parents) > 1 else stock.changes(commit.id, paths=limits)


def _document(
    commit: Commit, carriers: Mapping[str, str], shown: Shown, read: Callable[[Commit], Diff | None] | None
) -> dict[str, object]:
    document = commit_document(commit) | {"git": carriers.get(commit.id)}
    if read is not None:
        diff = read(commit)
        document["changes"] = None if diff is None else shown.document(diff)
    return document


def _read_carriers(console: Console, stock: StockRoom) -> Mapping[str, str]:
    try:
        return stock.list_git_commits()
    except GitError as error:
        console.say(f"git's commits are not shown: {error}")
        return {}


def _describe(
    commit: Commit,
    names: Mapping[str, str],
    carriers: Mapping[str, str],
    shown: Shown,
    read: Callable[[Commit], Diff | None] | None,
) -> list[str]:
    refs = names.get(commit.id, "")
    lines = (
        [commit_line(commit, refs)] if shown.oneline else list(iter_commit_lines(commit, refs, carriers.get(commit.id)))
    )
    diff = None if read is None else read(commit)
    if diff is not None:
        lines += [*([] if shown.oneline else [""]), *shown.iter_lines(diff)]
    return lines


def _list(texts: Iterable[tuple[Commit, list[str]]], *, oneline: bool) -> Iterator[str]:
    for number, (_, lines) in enumerate(texts):
        if number and not oneline:
            yield ""
        yield from lines


def _limits(revision: str) -> bool:
    """Return whether a word leaves commits out: `^A`, `A..B`."""
    return revision.startswith("^") or ".." in revision


def _link(whole: Iterable[Commit], shown: Container[str], *, first_parent: bool) -> dict[str, tuple[str, ...]]:
    """Return, for each commit, the nearest of its ancestors that are shown; those of others are left out, as in git."""
    nearest: dict[str, tuple[str, ...]] = {}
    parents: dict[str, tuple[str, ...]] = {}
    for commit in reversed(list(whole)):
        followed = commit.parents[:1] if first_parent else commit.parents
        parents[commit.id] = tuple(dict.fromkeys(one for parent in followed for one in nearest.get(parent, ())))
        nearest[commit.id] = (commit.id,) if commit.id in shown else parents[commit.id]
    return parents


def _draw(
    texts: Iterable[tuple[Commit, list[str]]], parents: Mapping[str, Sequence[str]], *, oneline: bool
) -> Iterator[str]:
    graph = CommitGraph()
    for commit, lines in texts:
        yield from graph.draw(commit.id, parents.get(commit.id, ()), lines if oneline else [*lines, ""])
