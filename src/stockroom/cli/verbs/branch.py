"""`stock branch`: list, create and delete branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock branch relabel v1", complete={"at": "refs", "delete": "branches"})
def branch(
    console: Console,
    name: Annotated[str | None, typer.Argument(help="The branch to create.")] = None,
    at: Annotated[str | None, typer.Argument(help="The commit to point to; HEAD by default.")] = None,
    delete: Annotated[
        str | None, typer.Option("-d", "--delete", metavar="NAME", help="Delete a merged branch.")
    ] = None,
    force_delete: Annotated[
        str | None, typer.Option("-D", metavar="NAME", help="Delete a branch, even if it is not merged.")
    ] = None,
    list_: Annotated[bool, typer.Option("-l", "--list", help="List the branches.")] = False,
    remotes: Annotated[bool, typer.Option("-r", "--remotes", help="List remote-tracking branches.")] = False,
    all_: Annotated[bool, typer.Option("-a", "--all", help="List all branches, remote-tracking ones too.")] = False,
) -> None:
    """List branches, or create or delete one."""
    if sum((name is not None, delete is not None, force_delete is not None, list_)) > 1:
        raise CommandLineError("NAME, -d, -D and --list cannot be combined")
    with console.open_stock() as stock:
        if delete is not None or force_delete is not None:
            _delete(console, stock, delete or force_delete or "", force=force_delete is not None)
        elif name is not None:
            stock.create_branch(name, at=at or "HEAD")
            console.answer({"created": {"name": name, "id": stock.branches[name]}})
        else:
            _list(console, stock, own=not remotes, remote=remotes or all_)


def _delete(console: Console, stock: StockRoom, name: str, *, force: bool) -> None:
    old = stock.branches.get(name)
    stock.delete_branch(name, force=force)
    console.say(f"deleted branch {name} (was {short_id(old)}); `stock undo` restores it")
    console.answer({"deleted": {"name": name, "id": old}})


def _list(console: Console, stock: StockRoom, *, own: bool, remote: bool) -> None:
    current = stock.branch
    branches = sorted(stock.branches.items()) if own else []
    seen = sorted(stock.remote_branches.items()) if remote else []
    document: dict[str, object] = {
        "branches": [{"name": name, "id": id_, "current": name == current} for name, id_ in branches]
    }
    if remote:
        document["remote_branches"] = [{"name": name, "id": id_} for name, id_ in seen]
    lines = [f"{'*' if name == current else ' '} {name}" for name, _ in branches]
    console.answer(document, [*lines, *(f"  {'remotes/' if own else ''}{name}" for name, _ in seen)])
