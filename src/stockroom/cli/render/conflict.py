"""Conflicts, and a merge under way, as lines and as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.conflict_values import open_sides
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.render.units import format_count
from stockroom.errors import MergeConflictError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.content.merge.conflict import Conflict
    from stockroom.repository.merging.commands import Merge
    from stockroom.shelves.report import MergeUnderWay

_HEADINGS: Final = ("path", "key", "kind", "ours", "theirs")


def iter_conflict_lines(
    conflicts: Sequence[Conflict], ours: str | None = None, theirs: str | None = None
) -> Iterator[str]:
    """A table of conflicts: path, key, kind, and what each side has, looked up in its commit where that is known."""
    if conflicts:
        with open_sides(ours, theirs) as describe:
            rows = [(*_make_cells(conflict), *describe(conflict)) for conflict in conflicts]
        yield from iter_headed_lines(_HEADINGS, rows)


def conflict_document(conflict: Conflict) -> dict[str, object]:
    """A conflict as JSON; digests are of the raw bytes, or of records, null where a side has nothing."""
    return {
        "path": conflict.path,
        "key": conflict.key,
        "kind": conflict.kind,
        "base": conflict.base,
        "ours": conflict.ours,
        "theirs": conflict.theirs,
    }


def merge_document(merge: MergeUnderWay | None) -> dict[str, object] | None:
    """A merge under way as JSON; null for none."""
    if merge is None:
        return None
    return {
        "kind": merge.kind,
        "commit": merge.commit,
        "message": merge.message,
        "conflicts": [conflict_document(conflict) for conflict in merge.conflicts],
    }


def iter_merge_lines(merge: MergeUnderWay, ours: str | None) -> Iterator[str]:
    """A merge under way into the commit `ours` in words, with its open conflicts."""
    what = f" of {short_id(merge.commit)}" if merge.commit else ""
    way_out = "`stock merge --abort` gives it up"
    if merge.conflicts:
        count = format_count(len(merge.conflicts), "open conflict")
        yield f"A {merge.kind}{what} is under way, with {count}; `stock resolve` decides, {way_out}:"
    else:
        yield f"A {merge.kind}{what} is under way; `stock merge --continue` commits it, {way_out}"
    yield from iter_conflict_lines(merge.conflicts, ours, merge.commit)


def run_merge(console: Console, stock: StockRoom, theirs: str, bring_in: Callable[[], Merge]) -> None:
    """Do a merge, revert or cherry-pick and print what came of it, or its conflicts, which exit with 14."""
    branch, old = stock.branch, stock.commit_id
    try:
        merge = bring_in()
    except MergeConflictError as error:
        tell_conflicts(console, error, branch=branch, commit_id=old, theirs=theirs)
        raise
    if console.json:
        tell_outcome(console, merge.outcome, branch=branch, old=old, commit_id=merge.commit_id, found=merge.conflicts)
    else:
        _tell_merge(console, stock, merge, theirs)
    if merge.conflicts:
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


def tell_outcome(
    console: Console,
    outcome: str,
    *,
    branch: str | None,
    old: str | None,
    commit_id: str | None,
    found: Sequence[Conflict] = (),
) -> None:
    """Print the JSON document of a merge; where the branch stood, and where it stands now."""
    conflicts = [conflict_document(conflict) for conflict in found]
    fields = {"outcome": outcome, "branch": branch, "old": old, "commit": commit_id, "conflicts": conflicts}
    console.document(fields)


def tell_conflicts(
    console: Console, error: MergeConflictError, *, branch: str | None, commit_id: str | None, theirs: str | None
) -> None:
    """Print the conflicts that kept a merge from happening; in JSON that is all, so that there is one document."""
    conflicts: tuple[Conflict, ...] = error.conflicts  # type: ignore[assignment]
    if console.json:
        tell_outcome(console, "conflict", branch=branch, old=commit_id, commit_id=commit_id, found=conflicts)
        raise typer.Exit(exit_codes.CONFLICT)
    console.lines(iter_conflict_lines(conflicts, commit_id, theirs))


def _make_cells(conflict: Conflict) -> tuple[str, ...]:
    key = "" if conflict.key is None else format_key(conflict.key)
    return format_key(conflict.path), key, conflict.kind
