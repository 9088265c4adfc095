"""`stock gc`: delete unreachable content to free disk space."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.units import format_count, format_nbytes, parse_duration
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError

if TYPE_CHECKING:
    from stockroom.remotes.gc import RemoteGcReport
    from stockroom.repository.upkeep.gc import GcReport


@verb(example="stock gc --dry-run")
def gc(
    console: Console,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="With --remote: the remote's name; origin by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only print the planned deletions.")] = False,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long content must have been unreachable: 2w, 3d, 12h, 0.")
    ] = "2w",
    repack: Annotated[bool, typer.Option("--repack", help="Also rewrite small or wasteful packs.")] = False,
    remote: Annotated[
        bool,
        typer.Option(
            "--remote", help="Clean up a remote: mark unreachable packs, and delete those marked for at least TIME."
        ),
    ] = False,
) -> None:
    """Delete unreachable content to free disk space.

    Content is unreachable if no branch, tag, stage, recent operation or open reader needs it.
    """
    with console.open_stock(needs_head=not remote) as stock, console.progress("gc") as progress:

        def show(stage: str, done: int, total: int) -> None:
            progress.update(stage, done, total=total or None)

        if remote:
            on_remote = stock.gc_remote(name or "origin", dry_run, parse_duration(grace), repack=repack, on_stage=show)
        elif name is not None:
            raise InvalidInputError(f"NAME needs --remote, found only {name!r}")
        else:
            report = stock.gc(dry_run, parse_duration(grace), repack=repack, on_stage=show)
    if remote:
        _tell_remote(console, on_remote)
    else:
        _tell(console, report)


def _tell_remote(console: Console, report: RemoteGcReport) -> None:
    removed, marked = ("would remove", "would mark") if report.dry_run else ("removed", "marked")
    packs, bundles = format_count(report.packs, "pack"), format_count(report.bundles, "bundle")
    lines = [f"{removed} {format_nbytes(report.nbytes)} on {report.remote}: {packs}, {bundles}"]
    if report.marked:
        lines.append(f"{marked} {format_count(report.marked, 'pack')} as unreachable")
    if report.repacked:
        lines.append(_describe_repack(report))
    console.answer(asdict(report), lines)
    if report.waiting:
        console.say(f"{format_count(report.waiting, 'pack')} marked, but not long enough ago (--grace)")


def _describe_repack(report: GcReport | RemoteGcReport) -> str:
    rewritten = format_count(report.repacked, "pack")
    return f"would rewrite {rewritten}" if report.dry_run else f"rewrote {rewritten} into {report.made}"


def _tell(console: Console, report: GcReport) -> None:
    done = "would free" if report.dry_run else "freed"
    packs = format_count(report.packs, "pack")
    others = f"{format_count(report.commits, 'commit')} and {format_count(report.objects, 'object')}"
    lines = [f"{done} {format_nbytes(report.nbytes)}: {packs}, {others}"]
    if report.repacked:
        lines.append(_describe_repack(report))
    console.answer(asdict(report), lines)
    if report.waiting:
        console.say(f"{format_count(report.waiting, 'pack')} unreachable, but not for long enough (--grace)")
    if report.in_use:
        commits = format_count(report.in_use, "commit")
        console.say(f"{commits} kept for readers that have them open: run gc again when they are done")
    if report.held:
        console.say(f"{format_count(report.held, 'pack')} kept for active writers: run gc again when they are done")
