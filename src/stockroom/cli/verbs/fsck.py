"""`stock fsck`: check everything, and with `--repair` repair damage if possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.units import format_count
from stockroom.cli.verb import verb
from stockroom.errors import StockroomError
from stockroom.files import refuse_unreadable

if TYPE_CHECKING:
    from stockroom.repository.upkeep.repair import RepairReport
    from stockroom.repository.upkeep.verify import VerifyReport
    from stockroom.store.upkeep.verify import Unchecked


@verb(example="stock fsck --read-data-subset 5%")
def fsck(
    console: Console,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="With --remote: the remote's name; origin by default.")
    ] = None,
    connectivity_only: Annotated[
        bool, typer.Option("--connectivity-only", help="Read no samples: check only names, sizes and references.")
    ] = False,
    read_data_subset: Annotated[
        str | None, typer.Option(metavar="5%|3/10", help="Read only some packs: a random 5%, or part 3 of 10.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair damage if possible; damaged files are moved aside, never deleted.")
    ] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Check a remote, by downloading it; `stock push --repair` repairs it.")
    ] = False,
) -> None:
    """Check every digest, tree and ref.

    Exits with 15 if something is damaged, or with 16 if something could not be read.
    """
    sample, subset = _parse_subset(read_data_subset)
    if repair and (connectivity_only or read_data_subset):
        raise CommandLineError(
            "--repair cannot be combined with --connectivity-only or --read-data-subset: it checks everything"
        )
    if remote and repair:
        raise CommandLineError("--repair and --remote cannot be combined; `stock push --repair` repairs a remote")
    if name is not None and not remote:
        raise CommandLineError(f"{name!r}: the name of a remote needs --remote")
    _check_refs()
    with (
        console.open_stock(needs_head=not remote) as stock,
        console.progress("fsck") as progress,
        _telling_unreadable(),
    ):

        def show(done: int, total: int) -> None:
            progress.update("packs", done, total=total)

        if repair:
            repaired = stock.repair(on_progress=show)
            _tell_repair(console, repaired)
            damage, unchecked = repaired.left, repaired.unchecked
        else:
            options: Any = {"subset": subset, "connectivity_only": connectivity_only, "on_progress": show}
            report = (
                stock.verify_remote(name or "origin", sample, **options) if remote else stock.verify(sample, **options)
            )
            _tell_check(console, report)
            damage, unchecked = report.damage, report.unchecked
    if damage or unchecked:
        raise typer.Exit(exit_codes.CORRUPTION if damage else exit_codes.UNREADABLE)


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


@contextmanager
def _telling_unreadable() -> Iterator[None]:
    """Raise `UnreadableError` for errors of the system, which say nothing about the repository."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, StockroomError):
            refuse_unreadable(error, error.filename or "the repository")
        raise


def _tell_check(console: Console, report: VerifyReport) -> None:
    looked_at = {name: getattr(report, name) for name in ("packs", "commits", "objects", "chunks", "operations")}
    damage, unchecked = ([asdict(item) for item in items] for items in (report.damage, report.unchecked))
    checked = {**looked_at, "nbytes": report.nbytes}
    console.answer(
        {"ok": report.ok, "checked": checked, "damage": damage, "unchecked": unchecked},
        map(str, (*report.damage, *report.unchecked)),
    )
    told = [format_count(looked_at[name], name.removesuffix("s")) for name in ("packs", "commits", "objects", "chunks")]
    problems = f"{format_count(len(report.damage), 'problem')} found"
    console.say(f"checked {', '.join(told)}: {problems}{_count_unchecked(report.unchecked)}")


def _tell_repair(console: Console, report: RepairReport) -> None:
    found, left, unchecked = (
        [asdict(item) for item in items] for items in (report.found, report.left, report.unchecked)
    )
    console.answer(
        {"ok": report.ok, "found": found, "done": report.done, "damage": left, "unchecked": unchecked},
        [*report.done, *(f"still damaged: {item}" for item in report.left), *map(str, report.unchecked)],
    )
    problems = f"{format_count(len(report.found), 'problem')} found, {len(report.left)} left"
    console.say(f"{problems}{_count_unchecked(report.unchecked)}")


def _count_unchecked(unchecked: Sequence[Unchecked]) -> str:
    return f", {len(unchecked)} could not be checked" if unchecked else ""


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
