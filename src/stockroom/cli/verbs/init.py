"""`stock init`: create a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb(example='stock init pets --name "Ada Lovelace" --email ada@example.org')
def init(
    console: Console,
    path: Annotated[Path, typer.Argument(help="The folder; created if it does not exist.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The author of commits made here.")] = None,
    email: Annotated[str | None, typer.Option(help="The author's email.")] = None,
) -> None:
    """Create a repository, or do nothing if there is one."""
    from stockroom import StockRoom
    from stockroom.repository.git.work_tree import find_work_tree
    from stockroom.repository.paths import locate

    has_author = locate(path.resolve()).config.exists()
    with StockRoom.init(path, name=name, email=email) as stock:
        folder, is_new = str(stock.path), stock.is_new
    if is_new:
        console.say(f"created a repository in {folder}")
        if find_work_tree(Path(folder)) is not None:
            console.say("`git add head.stock` ties it to git: it then follows git's branches and checkouts")
    else:
        console.say(f"{folder} is already a repository; {_describe_author(name or email, has_author)}")
    console.answer({"path": folder, "created": is_new})


def _describe_author(given: str | None, has_author: bool) -> str:
    if not given:
        return "nothing changed"
    if has_author:
        return "nothing changed; it keeps its author: `stock commit --author` sets another for one commit"
    return "commits made here now have an author"
