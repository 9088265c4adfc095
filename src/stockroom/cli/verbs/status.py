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
from stockroom.cli.render.units import format_part
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.shelves.report import Presence, Status


@verb(example="stock status --short")
def status(
    console: Console,
    short: Annotated[bool, typer.Option("-s", "--short", help="Show only the changes.")] = False,
    porcelain: Annotated[
        bool, typer.Option("--porcelain", help="Show only the changes, as `git status --porcelain` does.")
    ] = False,
) -> None:
    """Show the branch, its commit and the staged changes."""
    with console.open_stock() as stock:
        status = stock.status()
        if porcelain and not console.json:
            console.lines(_iter_porcelain_lines(status))
            return
        changes = changes_of_diff(status.changes)
        presence = stock.measure_presence()
    document = {
        "branch": status.branch,
        "commit": status.commit_id,
        "clean": status.clean,
        "staged_on": status.staged_on,
        "changes": changes_document(changes),
        "merge": merge_document(status.merge),
        "presence": asdict(presence),
    }
    console.answer(document, chain(() if short else _iter_head_lines(status, presence), iter_stat_lines(changes)))


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


def _iter_head_lines(status: Status, presence: Presence) -> Iterator[str]:
    """Yield the lines above the staged changes."""
    where = f"On branch {status.branch}" if status.branch else "HEAD is detached"
    yield f"{where}, at {short_id(status.commit_id) if status.commit_id else 'no commit yet'}"
    if presence.whole_packs < presence.packs:
        yield f"Present: {format_part(presence.present_nbytes, presence.nbytes)}; reading fetches the rest"
    if status.merge is not None:
        yield from iter_merge_lines(status.merge, status.commit_id)
    yield _describe_stage(status)


def _describe_stage(status: Status) -> str:
    """Return the line directly above the staged changes."""
    if status.clean:
        return "Nothing staged"
    if status.staged_on == status.commit_id:
        return "Staged; `stock commit` commits it:"
    return f"Staged on {short_id(status.staged_on)}, but HEAD has moved: go back there, or discard it (`stock reset`):"
