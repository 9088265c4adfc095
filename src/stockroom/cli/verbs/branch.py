"""`stock branch`: list, create, move, rename and delete branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock branch relabel v1", complete={"names": "refs"})
def branch(
    console: Console,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME [START]]",
            help="The branch to create, and the commit to point to; HEAD by default. With -d: branches to delete. With "
            "-m: [OLD] NEW. With --list: patterns. With --merged and the like: the commit.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Move the branch to START if it exists.")] = False,
    move: Annotated[bool, typer.Option("-m", "--move", help="Rename a branch; the current one by default.")] = False,
    force_move: Annotated[bool, typer.Option("-M", help="Rename a branch, even if NEW exists.")] = False,
    delete: Annotated[bool, typer.Option("-d", "--delete", help="Delete merged branches.")] = False,
    force_delete: Annotated[bool, typer.Option("-D", help="Delete branches, even if they are not merged.")] = False,
    list_: Annotated[bool, typer.Option("-l", "--list", help="List the branches, or those that match NAME.")] = False,
    remotes: Annotated[bool, typer.Option("-r", "--remotes", help="List remote-tracking branches.")] = False,
    all_: Annotated[bool, typer.Option("-a", "--all", help="List all branches, remote-tracking ones too.")] = False,
    verbose: Annotated[bool, typer.Option("-vv", help="List each branch with its commit, as -v does.")] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="List branches whose commits COMMIT has; HEAD by default.")
    ] = False,
    no_merged: Annotated[bool, typer.Option("--no-merged", help="List branches with commits COMMIT lacks.")] = False,
    contains: Annotated[bool, typer.Option("--contains", help="List branches that have COMMIT.")] = False,
    show_current: Annotated[bool, typer.Option("--show-current", help="Print the current branch.")] = False,
) -> None:
    """List branches, or create, move, rename or delete one."""
    given = names or []
    verbose = verbose or console.given.verbose
    limits = [merged, no_merged, contains]
    if sum((move or force_move, delete or force_delete, list_ or any(limits), show_current)) > 1 or sum(limits) > 1:
        raise CommandLineError(
            "-m, -d, --list, --merged, --no-merged, --contains and --show-current exclude each other"
        )
    lists = list_ or any(limits) or remotes or all_ or verbose or not given
    with console.open_stock() as stock:
        if show_current:
            console.answer({"branch": stock.branch}, [stock.branch] if stock.branch else [])
        elif move or force_move:
            _move(console, stock, given, force=force_move or force)
        elif delete or force_delete:
            _delete(console, stock, given, force=force_delete or force)
        elif lists:
            chosen = _choose(stock, given, merged=merged, no_merged=no_merged, contains=contains)
            _list(console, stock, chosen, own=not remotes, remote=remotes or all_, verbose=verbose)
        else:
            _create(console, stock, given, force=force)


def _create(console: Console, stock: StockRoom, names: Sequence[str], *, force: bool) -> None:
    if len(names) > 2:
        raise CommandLineError(f"expected NAME and START, found {' '.join(names)}")
    name, at = names[0], names[1] if len(names) > 1 else "HEAD"
    stock.create_branch(name, at=at, force=force)
    console.answer({"created": {"name": name, "id": stock.branches[name]}})


def _move(console: Console, stock: StockRoom, names: Sequence[str], *, force: bool) -> None:
    if not 1 <= len(names) <= 2:
        raise CommandLineError(f"expected NEW, or OLD and NEW, after -m, found {' '.join(names) or 'none'}")
    old = names[0] if len(names) > 1 else stock.branch
    if old is None:
        raise CommandLineError("HEAD is detached, so -m needs OLD and NEW")
    stock.rename_branch(old, names[-1], force=force)
    console.say(f"renamed branch {old} to {names[-1]}")
    console.answer({"renamed": {"old": old, "new": names[-1], "id": stock.branches.get(names[-1])}})


def _delete(console: Console, stock: StockRoom, names: Sequence[str], *, force: bool) -> None:
    if not names:
        raise CommandLineError("expected a branch to delete, found none")
    deleted = []
    for name in names:
        old = stock.branches.get(name)
        stock.delete_branch(name, force=force)
        console.say(f"deleted branch {name} (was {short_id(old)}); `stock undo` restores it")
        deleted.append({"name": name, "id": old})
    console.answer({"deleted": deleted[0] if len(deleted) == 1 else deleted})


def _choose(
    stock: StockRoom, names: Sequence[str], *, merged: bool, no_merged: bool, contains: bool
) -> Mapping[str, str]:
    """Return the branches to list, in order of name."""
    branches = dict(sorted(stock.branches.items()))
    if not (merged or no_merged or contains):
        return {name: id_ for name, id_ in branches.items() if matches(name, names)}
    if len(names) > 1:
        raise CommandLineError(f"expected one commit, found {' '.join(names)}")
    ref = names[0] if names else "HEAD"
    has = stock.list_containing(ref) if contains else stock.list_merged(ref)
    return {name: id_ for name, id_ in branches.items() if has.get(name) is not no_merged}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name matches one of some patterns, or there are none."""
    listed = list(patterns)
    return not listed or any(fnmatchcase(name, pattern) for pattern in listed)


def _list(
    console: Console, stock: StockRoom, chosen: Mapping[str, str], *, own: bool, remote: bool, verbose: bool
) -> None:
    current = stock.branch
    branches = list(chosen.items()) if own else []
    seen = sorted(stock.remote_branches.items()) if remote else []
    document: dict[str, object] = {
        "branches": [{"name": name, "id": id_, "current": name == current} for name, id_ in branches]
    }
    if remote:
        document["remote_branches"] = [{"name": name, "id": id_} for name, id_ in seen]

    def describe(id_: str) -> str:
        return f" {short_id(id_)} {subject_of(next(stock.log(id_, 1)).message)}" if verbose else ""

    lines = [f"{'*' if name == current else ' '} {name}{describe(id_)}" for name, id_ in branches]
    seen_lines = (f"  {'remotes/' if own else ''}{name}{describe(id_)}" for name, id_ in seen)
    console.answer(document, [*lines, *seen_lines])
