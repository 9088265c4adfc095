"""`stock fsck`: check everything, and with `--repair` repair damage if possible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.units import format_count
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.repository.upkeep.repair import RepairReport
    from stockroom.repository.upkeep.verify import VerifyReport
    from stockroom.store.upkeep.verify import Damage


@verb(example="stock fsck --read-data-subset 5%")
def fsck(
    console: Console,
    connectivity_only: Annotated[
        bool, typer.Option("--connectivity-only", help="Read no samples: only names, sizes and what leads to what.")
    ] = False,
    read_data_subset: Annotated[
        str | None, typer.Option(metavar="5%|3/10", help="Read only so much of the packs by chance, or that part.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; nothing is deleted, damaged things move aside.")
    ] = False,
) -> None:
    """Check every digest, tree and ref; exits with 15 and names what is damaged."""
    sample, subset = _parse_subset(read_data_subset)
    if repair and (connectivity_only or read_data_subset):
        raise CommandLineError("--repair looks at everything: leave --connectivity-only and --read-data-subset out")
    _check_refs()
    with console.open_stock() as stock, console.progress("fsck") as progress:

        def show(done: int, total: int) -> None:
            progress.update("packs", done, total=total)

        if repair:
            damage = _tell_repair(console, stock.repair(on_progress=show))
        else:
            report = stock.verify(sample, subset=subset, connectivity_only=connectivity_only, on_progress=show)
            damage = _tell_check(console, report)
    if damage:
        raise typer.Exit(exit_codes.CORRUPTION)


def _check_refs() -> None:
    """Raise `CorruptionError` if the file of names and history must not be opened: LMDB would trust it."""
    from stockroom.errors import CorruptionError
    from stockroom.kv import check_structure
    from stockroom.repository.paths import locate_repository

    try:
        check_structure(locate_repository(Path.cwd()).refs)
    except CorruptionError as error:
        message = f"{error}; names and history cannot be repaired here: restore the file, or clone the repository again"
        raise CorruptionError(message, where=error.where) from error


def _tell_check(console: Console, report: VerifyReport) -> Sequence[Damage]:
    looked_at = {name: getattr(report, name) for name in ("packs", "commits", "objects", "chunks", "operations")}
    damage = [asdict(item) for item in report.damage]
    console.answer(
        {"ok": report.ok, "checked": {**looked_at, "nbytes": report.nbytes}, "damage": damage}, map(str, report.damage)
    )
    told = [format_count(looked_at[name], name.removesuffix("s")) for name in ("packs", "commits", "objects", "chunks")]
    console.say(f"checked {', '.join(told)}: {format_count(len(report.damage), 'problem')} found")
    return report.damage


def _tell_repair(console: Console, report: RepairReport) -> Sequence[Damage]:
    found, left = ([asdict(item) for item in items] for items in (report.found, report.left))
    console.answer(
        {"ok": report.ok, "found": found, "done": report.done, "damage": left},
        [*report.done, *(f"still damaged: {item}" for item in report.left)],
    )
    console.say(f"{format_count(len(report.found), 'problem')} found, {len(report.left)} left")
    return report.left


def _parse_subset(text: str | None) -> tuple[float | None, tuple[int, int] | None]:
    """Parse `5%` as a fraction, `3/10` as part and parts."""
    if text is None:
        return None, None
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", text)
    part = re.fullmatch(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})", text)
    if percent is not None and 0 < float(percent[1]) <= 100:
        return float(percent[1]) / 100, None
    if part is not None and 1 <= int(part[1]) <= int(part[2]):
        return None, (int(part[1]), int(part[2]))
    raise CommandLineError(f"expected a share such as 5%, or a part such as 3/10, found {text!r}")
