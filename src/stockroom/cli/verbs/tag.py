"""`stock tag`: list, create and delete tags."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb


@verb(example="stock tag v1", complete={"at": "refs", "delete": "tags"})
def tag(
    console: Console,
    name: Annotated[str | None, typer.Argument(help="The tag to create.")] = None,
    at: Annotated[str | None, typer.Argument(help="The commit to point to; HEAD by default.")] = None,
    delete: Annotated[str | None, typer.Option("-d", "--delete", metavar="NAME", help="Delete a tag.")] = None,
    list_: Annotated[bool, typer.Option("-l", "--list", help="List the tags.")] = False,
) -> None:
    """List tags, or create or delete one."""
    if sum((name is not None, delete is not None, list_)) > 1:
        raise CommandLineError("NAME, -d and --list cannot be combined")
    with console.open_stock() as stock:
        if delete is not None:
            old = stock.tags.get(delete)
            stock.delete_tag(delete)
            console.answer({"deleted": {"name": delete, "id": old}})
            console.say(f"deleted tag {delete} (was {short_id(old)}); `stock undo` restores it")
        elif name is not None:
            stock.create_tag(name, at=at or "HEAD")
            console.answer({"created": {"name": name, "id": stock.tags[name]}})
        else:
            tags = sorted(stock.tags.items())
            console.answer({"tags": [{"name": each, "id": id_} for each, id_ in tags]}, (each for each, _ in tags))
