"""Runs a merge, revert, cherry-pick or pull, and prints its outcome or its conflicts, which exit with 14."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.conflict import conflict_document, iter_conflict_lines
from stockroom.cli.render.units import format_count
from stockroom.errors import MergeConflictError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.content.merge.conflict import Conflict
    from stockroom.repository.merging.commands import Merge


def run_merge(console: Console, stock: StockRoom, theirs: str, start_merge: Callable[[], Merge]) -> None:
    """Run a merge, revert or cherry-pick, and print its outcome or its conflicts, which exit with 14."""
    branch, old = stock.branch, stock.commit_id
    try:
        merge = start_merge()
    except MergeConflictError as error:
        tell_conflicts(console, error, branch=branch, commit_id=old, theirs=theirs)
        raise
    if console.json:
        outcome = merge.outcome
        console.document(
            outcome_document(outcome, branch=branch, old=old, commit_id=merge.commit_id, found=merge.conflicts)
        )
    else:
        _tell_merge(console, stock, merge, theirs)
    if merge.conflicts:
        raise typer.Exit(exit_codes.CONFLICT)


def outcome_document(
    outcome: str, *, branch: str | None, old: str | None, commit_id: str | None, found: Sequence[Conflict] = ()
) -> dict[str, object]:
    """Return a merge as JSON: its outcome, and the branch's old and new commit."""
    conflicts = [conflict_document(conflict) for conflict in found]
    return {"outcome": outcome, "branch": branch, "old": old, "commit": commit_id, "conflicts": conflicts}


def tell_conflicts(
    console: Console, error: MergeConflictError, *, branch: str | None, commit_id: str | None, theirs: str | None
) -> None:
    """Print the conflicts that prevented a merge; with `--json`, exit now so that there is only one document."""
    conflicts: tuple[Conflict, ...] = error.conflicts  # type: ignore[assignment]
    console.answer(
        outcome_document("conflict", branch=branch, old=commit_id, commit_id=commit_id, found=conflicts),
        iter_conflict_lines(conflicts, commit_id, theirs),
    )
    if console.json:
        raise typer.Exit(exit_codes.CONFLICT)


def _tell_merge(console: Console, stock: StockRoom, merge: Merge, theirs: str) -> None:
    if merge.outcome == "up to date":
        console.say("already up to date")
    elif merge.outcome == "staged":
        console.lines(iter_conflict_lines(merge.conflicts, stock.commit_id, theirs))
        left = format_count(len(merge.conflicts), "conflict")
        console.say(
            f"staged, with {left} open; decide with `stock resolve`"
            if merge.conflicts
            else "staged; `stock merge --continue` commits it"
        )
    else:
        commit = next(stock.log(n=1))
        subject = "fast-forward" if merge.outcome == "fast-forward" else subject_of(commit.message)
        console.say(f"[{stock.branch or 'no branch'} {short_id(commit.id)}] {subject}")
        console.line(commit.id)
