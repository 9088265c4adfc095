"""`stock tag`: list, create, move and delete tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb
from stockroom.cli.verbs.branch import matches

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock tag v1", complete={"names": "words"})
def tag(
    console: Console,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME [COMMIT]]",
            help="The tag to create, and the commit to point to; HEAD by default. With -d: tags to delete. With -l: "
            "patterns such as 'v*'.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Move the tag if it exists.")] = False,
    delete: Annotated[bool, typer.Option("-d", "--delete", help="Delete tags.")] = False,
    list_: Annotated[bool, typer.Option("-l", "--list", help="List the tags, or those that match NAME.")] = False,
) -> None:
    """List tags, or create, move or delete one."""
    given = names or []
    if delete and (list_ or force):
        raise CommandLineError("-d cannot be combined with -f and --list")
    with console.open_stock() as stock:
        if delete:
            _delete(console, stock, given)
        elif given and not list_:
            _create(console, stock, given, force=force)
        else:
            tags = [(name, id_) for name, id_ in sorted(stock.tags.items()) if matches(name, given)]
            console.answer({"tags": [{"name": name, "id": id_} for name, id_ in tags]}, (name for name, _ in tags))


def _create(console: Console, stock: StockRoom, names: list[str], *, force: bool) -> None:
    if len(names) > 2:
        raise CommandLineError(f"expected NAME and COMMIT, found {' '.join(names)}")
    name, old = names[0], stock.tags.get(names[0])
    stock.create_tag(name, at=names[1] if len(names) > 1 else "HEAD", force=force)
    if old is not None and old != stock.tags[name]:
        console.say(f"moved tag {name} (was {short_id(old)})")
    console.answer({"created": {"name": name, "id": stock.tags[name]}})


def _delete(console: Console, stock: StockRoom, names: list[str]) -> None:
    if not names:
        raise CommandLineError("expected a tag to delete, found none")
    deleted = []
    for name in names:
        old = stock.tags.get(name)
        stock.delete_tag(name)
        console.say(f"deleted tag {name} (was {short_id(old)}); `stock undo` restores it")
        deleted.append({"name": name, "id": old})
    console.answer({"deleted": deleted[0] if len(deleted) == 1 else deleted})
