"""`stock du`: show the disk usage of columns, models, branches and commits, and the savings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.render.units import format_count, format_nbytes, format_part
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import Commit
    from stockroom.repository.upkeep.chunk_owners import Tally
    from stockroom.repository.upkeep.usage import Cost, Usage


@verb(example="stock du --commits -n 10", complete={"rev": "refs"})
def du(
    console: Console,
    rev: Annotated[str, typer.Argument(metavar="[REV]", help="The commit.")] = "HEAD",
    commits: Annotated[bool, typer.Option("--commits", help="Show how much each commit added.")] = False,
    n: Annotated[
        int | None, typer.Option("-n", "--max-count", min=0, help="With --commits: show at most this many.")
    ] = None,
) -> None:
    """Show the disk usage of columns, models and branches.

    Also show how much equal samples and codecs save. In the table, raw counts every sample; on disk counts packs and
    metadata, and equal samples only once; only here counts bytes that no other line needs.

    Nothing is fetched: packs that a clone lacks are counted too.
    """
    if n is not None and not commits:
        raise CommandLineError("-n needs --commits")
    with console.open_stock(rev) as stock:
        if not commits:
            usage = stock.measure_usage()
        else:
            listed = list(stock.log("HEAD", n))
            added = stock.measure_commits() if listed else {}
    if commits:
        _tell_commits(console, listed, added)
    else:
        console.answer(lambda: _usage_document(usage), _iter_usage_lines(usage))


def _tell_commits(console: Console, listed: list[Commit], added: Mapping[str, Tally]) -> None:
    documents = [{"id": commit.id, "added": _tally_document(added[commit.id])} for commit in listed]
    rows = [
        (
            short_id(commit.id),
            format_nbytes(tally.chunk_nbytes),
            format_nbytes(tally.stored_nbytes),
            subject_of(commit.message),
        )
        for commit in listed
        for tally in [added[commit.id]]
    ]
    console.answer({"commits": documents}, iter_headed_lines(("commit", "raw added", "on disk", "message"), rows))


def _iter_usage_lines(usage: Usage) -> Iterator[str]:
    rows = [(format_key(path), *_cost_cells(cost)) for path, cost in usage.items.items()]
    yield from iter_headed_lines(("", "raw", "on disk", "only here"), [*rows, ("total", *_cost_cells(usage.total))])
    yield ""
    yield f"equal samples save {_format_saved(usage.total.saved_by_dedupe_nbytes, usage.total)}"
    yield f"codecs save {_format_saved(usage.total.saved_by_codecs_nbytes, usage.total)}"
    yield (
        f"history: {format_count(usage.commits, 'commit')}; as copies {format_nbytes(usage.copies_nbytes)}, "
        f"on disk {format_nbytes(usage.history.stored_nbytes)}"
    )
    if usage.branches:
        yield ""
        own = [
            (name, str(cost.commits), format_nbytes(cost.own.stored_nbytes)) for name, cost in usage.branches.items()
        ]
        yield from iter_headed_lines(("branch", "own commits", "only there"), own)


def _cost_cells(cost: Cost) -> tuple[str, ...]:
    return format_nbytes(cost.nbytes), format_nbytes(cost.found.stored_nbytes), format_nbytes(cost.own_nbytes)


def _format_saved(saved: int, total: Cost) -> str:
    """Return `1.2 MiB of 3.4 MiB (35.3%)`; no savings if packs are slightly larger than their content."""
    return format_part(max(saved, 0), total.nbytes)


def _usage_document(usage: Usage) -> dict[str, object]:
    return {
        "items": [{"path": path, **_cost_document(cost)} for path, cost in usage.items.items()],
        "total": _cost_document(usage.total)
        | {
            "saved_by_dedupe_nbytes": usage.total.saved_by_dedupe_nbytes,
            "saved_by_codecs_nbytes": usage.total.saved_by_codecs_nbytes,
        },
        "branches": [
            {"name": name, "own_commits": cost.commits, "own": _tally_document(cost.own)}
            for name, cost in usage.branches.items()
        ],
        "history": {"commits": usage.commits, "copies_nbytes": usage.copies_nbytes, **_tally_document(usage.history)},
    }


def _cost_document(cost: Cost) -> dict[str, object]:
    return {
        "nbytes": cost.nbytes,
        "inline_nbytes": cost.inline_nbytes,
        **_tally_document(cost.found),
        "own_nbytes": cost.own_nbytes,
    }


def _tally_document(tally: Tally) -> dict[str, object]:
    return asdict(tally) | {"stored_nbytes": tally.stored_nbytes}
