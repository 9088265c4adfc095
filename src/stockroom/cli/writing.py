"""What verbs that write have in common: how long to wait for another writer, and where an import ends up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockroom.cli.render.commit import short_id

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.console import Console

DEFAULT_TIMEOUT_S: Final = 10.0

TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for another writer to finish.")
]


@contextmanager
def open_staging(console: Console, timeout_s: float) -> Iterator[StockRoom]:
    """A writer of the stage; a stage that was clean is clean again after a failure."""
    with console.open_writer(timeout_s) as stock:
        was_clean = stock.status().clean
        try:
            yield stock
        except BaseException:
            if was_clean:
                stock.reset()
            raise


def describe_outcome(commit_id: str | None, *, staged: bool) -> str:
    """What became of an import."""
    if commit_id:
        return f"committed as {short_id(commit_id)}"
    return "staged" if staged else "nothing to commit, all of it was here already"
