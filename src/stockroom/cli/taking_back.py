"""The common part of `stock undo` and `stock redo`: what they skip, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.operation import operation_document

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.refs import Operation

_VERBS: Final = {"undone": "undid", "redone": "redid"}


def skipping(console: Console) -> tuple[list[tuple[Operation, str]], Callable[[Operation, str], None]]:
    """Return a list, and a callback that adds to it each operation that undo or redo skips, and says so."""
    skipped: list[tuple[Operation, str]] = []

    def skip(operation: Operation, reason: str) -> None:
        skipped.append((operation, reason))
        console.say(f"skipped operation {operation.number} ({operation.kind} {operation.ref}): {reason}")

    return skipped, skip


def report_taken_back(
    console: Console,
    stock: StockRoom,
    word: str,
    operation: Operation,
    text: str,
    skipped: Sequence[tuple[Operation, str]],
) -> None:
    """Report an undo or redo of `operation`, and where HEAD and the stage are since; `word` is undone or redone."""
    status = stock.status()
    stays = operation.stage_name is not None or operation.ref == f"branch/{status.branch}"
    is_behind = status.branch is not None and stock.branches.get(status.branch) != status.commit_id
    text += "" if stays and not is_behind else "; HEAD did not move"
    if status.staged_on != status.commit_id:
        text += f"; the staged changes are based on {short_id(status.staged_on)}: check it out to go on with them"
    elif operation.stage_name is None and not status.clean:
        text += "; changes are staged"
    console.say(f"{_VERBS[word]} {operation.kind}: {text}")
    console.answer(
        {
            word: operation_document(operation),
            "skipped": [{**operation_document(one), "reason": reason} for one, reason in skipped],
            "branch": status.branch,
            "commit": status.commit_id,
            "clean": status.clean,
            "staged_on": status.staged_on,
        }
    )
