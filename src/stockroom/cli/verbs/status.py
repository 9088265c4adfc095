"""`stock status`: show the staged changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.change import changes_document, changes_of_diff, iter_stat_lines, status_letter
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.conflict import iter_merge_lines, merge_document
from stockroom.cli.render.position import format_branch_line, iter_position_lines, position_document
from stockroom.cli.render.units import format_count, format_part
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.repository.position import Position
    from stockroom.shelves.report import Presence, Status


@verb(example="stock status --short")
def status(
    console: Console,
    short: Annotated[bool, typer.Option("-s", "--short", help="Show only the changes.")] = False,
    branch: Annotated[bool, typer.Option("-b", "--branch", help="With --short: show the branch too.")] = False,
    porcelain: Annotated[
        bool, typer.Option("--porcelain", help="Show only the changes, as `git status --porcelain` does.")
    ] = False,
) -> None:
    """Show the branch, its commit, its position relative to the remote's branch, and the staged changes."""
    with console.open_stock() as stock:
        status = stock.status()
        if porcelain and not console.json:
            console.lines(_iter_porcelain_lines(status))
            return
        changes = changes_of_diff(status.changes)
        presence = stock.measure_presence()
        position = stock.position()
    document = {
        "branch": status.branch,
        "commit": status.commit_id,
        "clean": status.clean,
        "staged_on": status.staged_on,
        "changes": changes_document(changes),
        "merge": merge_document(status.merge),
        "presence": asdict(presence),
        **position_document(position),
    }
    brief = [format_branch_line(position)] if branch else []
    head = brief if short else _iter_head_lines(status, presence, position)
    console.answer(document, chain(head, iter_stat_lines(changes)))


def _iter_porcelain_lines(status: Status) -> Iterator[str]:
    """Yield git's two letters and a path: staged changes, exact renames, and conflicts."""
    conflicts = () if status.merge is None else {conflict.path for conflict in status.merge.conflicts}
    renamed = status.changes.list_renames()
    for path, record in status.changes.items():
        if path in renamed:
            yield f"R  {path} -> {renamed[path]}"
        elif path not in renamed.values() and path not in conflicts:
            yield f"{status_letter(record.kind)}  {path}"
    yield from (f"UU {path}" for path in sorted(conflicts))


def _iter_head_lines(status: Status, presence: Presence, position: Position) -> Iterator[str]:
    """Yield the lines above the staged changes."""
    where = f"On branch {status.branch}" if status.branch else "HEAD is detached"
    yield f"{where}, at {short_id(status.commit_id) if status.commit_id else 'no commit yet'}"
    yield from iter_position_lines(position)
    if presence.whole_packs < presence.packs:
        yield f"Present: {format_part(presence.present_nbytes, presence.nbytes)}; reading fetches the rest"
    if status.merge is not None:
        yield from iter_merge_lines(status.merge, status.commit_id)
    yield _describe_stage(status, position)


def _describe_stage(status: Status, position: Position) -> str:
    """Return the line directly above the staged changes."""
    if status.clean:
        return "Nothing staged"
    if status.staged_on == status.commit_id:
        return "Staged; `stock commit` commits it:"
    between = position.of_stage
    how_far = f" by {format_count(between.ahead, 'commit')}" if between is not None and not between.behind else ""
    return (
        f"Staged on {short_id(status.staged_on)}, but HEAD has moved{how_far}: go back there, or discard it "
        "(`stock reset`):"
    )
