"""What the verbs that move bytes have in common: their options, and how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console

if TYPE_CHECKING:
    from stockroom.digest import CommitId
    from stockroom.remotes.progress import TransferProgress

RemoteArgument = Annotated[str, typer.Argument(metavar="[REMOTE]", help="The remote's name.")]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="The store's server, if it is not its provider's.")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="The store's region.")]


@contextmanager
def watch_transfer(console: Console, label: str) -> Iterator[Callable[[TransferProgress], None]]:
    """What to call with how far a transfer is, shown as suits stderr."""
    with console.progress(label) as progress:

        def show(now: TransferProgress) -> None:
            progress.update(
                f"{label} {now.stage}",
                now.files,
                total=now.total_files,
                nbytes=now.nbytes,
                total_nbytes=now.total_nbytes,
            )

        try:
            yield show
        except KeyboardInterrupt:
            console.say(f"{label} interrupted; the same command goes on from there")
            raise


def format_move(ref: str, old: CommitId | None, new: CommitId | None) -> str:
    """`main  3f9a1b2c4d5e -> 9c8b7a6f5e4d`."""
    name = ref.partition("/")[2]
    if new is None:
        return f"{name}  deleted (was {old.hex()[:12] if old else '-'})"
    return f"{name}  {old.hex()[:12] if old else 'new'} -> {new.hex()[:12]}"


def move_document(ref: str, old: CommitId | None, new: CommitId | None) -> dict[str, object]:
    """A moved ref, for JSON."""
    return {"ref": ref, "old": old.hex() if old else None, "new": new.hex() if new else None}
