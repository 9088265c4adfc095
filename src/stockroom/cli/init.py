"""`stock init`: make a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb
def init(
    console: Console,
    path: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Author of the commits made here.")] = None,
    email: Annotated[str | None, typer.Option(help="The author's email.")] = None,
) -> None:
    """Make a repository, or say that there is one already."""
    from stockroom import StockRoom

    with StockRoom.init(path, name=name, email=email) as stock:
        place, is_new = str(stock.path), stock.is_new
    if is_new:
        console.say(f"made a repository in {place}")
    else:
        author = "; its author stays as it is: `stock commit --author` names another" if name or email else ""
        console.say(f"{place} is a repository already; nothing was changed{author}")
    if console.json:
        console.document({"path": place, "created": is_new})
