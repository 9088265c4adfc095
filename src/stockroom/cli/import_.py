"""`stock import`: bring data in through a plug-in, and commit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.change_text import Change, changes_document, changes_of_status
from stockroom.cli.commit_text import short_id
from stockroom.cli.console import Console
from stockroom.cli.units import format_count, format_nbytes
from stockroom.cli.verb import verb
from stockroom.errors import NothingToCommitError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.progress import Progress
    from stockroom.importers.run import ImportProgress, ImportReport
    from stockroom.importers.source import ColumnSource


@verb
def import_(
    console: Console,
    source: Annotated[str, typer.Argument(help="What to import: numpy, torchvision.mnist, ...")],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, for sources that take them.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder to look in.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is not there.")] = False,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Message of the commit.")] = None,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the import staged.")] = False,
) -> None:
    """Import data as columns and commit them; columns of the same names are replaced.

    Run again after an interruption: what is already stored is not stored twice.
    """
    from stockroom.importers.registry import resolve_importer
    from stockroom.importers.source import ImportSpec

    importer = resolve_importer(source)
    with console.open_writer() as stock:
        columns = importer.open(ImportSpec(source, tuple(paths or ()), root, download))
        report = _stage_columns(console, stock, columns)
        changes = changes_of_status(stock.status())
        commit_id = None if no_commit else _commit(stock, message or f"Import {source}")
    _tell(console, report, changes, commit_id, staged=no_commit)


def _stage_columns(console: Console, stock: StockRoom, columns: Sequence[ColumnSource]) -> ImportReport:
    """Stage `columns`; a failed import leaves a stage that was clean as clean as it was."""
    from stockroom.importers.run import import_into

    was_clean = stock.status().clean
    try:
        with console.progress("import") as progress:
            return import_into(stock, columns, on_progress=_reporter(progress))
    except BaseException:
        if was_clean:
            stock.reset()
        raise


def _reporter(progress: Progress) -> Callable[[ImportProgress], None]:
    def report(now: ImportProgress) -> None:
        label = f"{now.column} ({now.column_index + 1}/{now.column_count})"
        progress.update(label, now.samples, total=now.sample_count, nbytes=now.nbytes)

    return report


def _commit(stock: StockRoom, message: str) -> str | None:
    """The new commit's id; None where the data was there already."""
    try:
        return stock.commit(message)
    except NothingToCommitError:
        return None


def _tell(
    console: Console, report: ImportReport, changes: list[Change], commit_id: str | None, *, staged: bool
) -> None:
    if console.json:
        console.document(
            {
                "columns": list(report.columns),
                "samples": report.samples,
                "nbytes": report.nbytes,
                "commit": commit_id,
                "changes": changes_document(changes),
            }
        )
        return
    size = f"{format_count(report.samples, 'sample')} ({format_nbytes(report.nbytes)})"
    if commit_id:
        end = f"committed as {short_id(commit_id)}"
    else:
        end = "staged" if staged else "nothing to commit, all of it was here already"
    console.say(f"imported {size} into {format_count(len(report.columns), 'column')}; {end}")
    if commit_id:
        console.line(commit_id)
