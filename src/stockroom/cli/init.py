"""`stock init`: make a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.identity import Identity, resolve_identity
from stockroom.cli.verb import verb
from stockroom.errors import RepositoryNotFoundError


@verb
def init(
    console: Console,
    path: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Author of the commits made here.")] = None,
    email: Annotated[str | None, typer.Option(help="The author's email.")] = None,
) -> None:
    """Make a repository, or say that there is one already."""
    from stockroom import StockRoom

    identity = resolve_identity(None)
    chosen = Identity(name or identity.name, email or identity.email)
    existed = _is_repository(path)
    with StockRoom.init(path, name=chosen.name, email=chosen.email) as stock:
        place = str(stock.path)
    console.say(f"{'there is a repository already in' if existed else 'made a repository in'} {place}")
    if console.json:
        console.document({"path": place, "created": not existed})


def _is_repository(path: Path) -> bool:
    from stockroom import StockRoom

    try:
        with StockRoom(path) as stock:
            return Path(stock.path) == path.resolve()
    except RepositoryNotFoundError:
        return False
