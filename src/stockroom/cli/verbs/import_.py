"""`stock import`: import data with a plug-in, and commit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.options import DEFAULT_TIMEOUT_S, TimeoutOption
from stockroom.cli.render.change import Change, changes_document, changes_of_diff
from stockroom.cli.render.commit import describe_outcome
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.cli.render.progress import Progress
    from stockroom.importers.left_out import LeftOut
    from stockroom.importers.run import ImportProgress, ImportReport


@verb(example="stock import imagefolder ~/signs -m Signs")
def import_(
    console: Console,
    source: Annotated[
        str,
        typer.Argument(
            help="The kind of source: numpy, csv, parquet, imagefolder, webdataset, huggingface, zarr, safetensors, "
            "torchvision.mnist, ..."
        ),
    ],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or a folder; some sources take none.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder with the data; paths are relative to it.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing files.")] = False,
    split: Annotated[str | None, typer.Option(help="The split, if the data set has several.")] = None,
    keep_encoded: Annotated[
        bool, typer.Option("--keep-encoded", help="Keep images encoded; they are decoded when they are read.")
    ] = False,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Skip and list unreadable samples.")] = False,
    limits: Annotated[
        float, typer.Option(metavar="FACTOR", help="Multiply all size limits by this; only for files that you trust.")
    ] = 1.0,
    append: Annotated[
        bool, typer.Option("--append", help="Put the samples behind those that the columns have.")
    ] = False,
    message: Annotated[str | None, typer.Option("-m", "--message", help="The commit message.")] = None,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the import staged.")] = False,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Import data as columns, and commit them.

    All staged changes are committed too. Columns with the same names are replaced, unless --append
    is given; a note says which of them had other samples.

    A failed import changes nothing. If you run it again, samples that are already stored are not stored twice.
    """
    from stockroom.importers.limits import Limits
    from stockroom.importers.registry import resolve_importer
    from stockroom.importers.run import import_into
    from stockroom.importers.source import ImportSpec

    importer = resolve_importer(source)
    flags = (download, split, keep_encoded, skip_broken, Limits(limits))
    spec = ImportSpec(source, tuple(paths or ()), root, *flags)
    with console.open_stock() as stock:
        before = stock.commit_id
        block = stock.enable_write(message or f"Import {source}", timeout_s)
        target = console.open_staging(timeout_s) if no_commit else block
        with console.progress("import") as progress, target as writer:
            report = import_into(writer, importer.open(spec), append=append, on_progress=_reporter(progress))
            changes = changes_of_diff(writer.status().changes)
        stock.refresh()
        commit_id = stock.commit_id if stock.commit_id != before else None
    _tell(console, report, changes, commit_id, staged=no_commit)


def _reporter(progress: Progress) -> Callable[[ImportProgress], None]:
    def report(now: ImportProgress) -> None:
        label = f"{now.column} ({now.column_index + 1}/{now.column_count})"
        progress.update(label, now.samples, total=now.sample_count, nbytes=now.nbytes)

    return report


def _tell(
    console: Console, report: ImportReport, changes: list[Change], commit_id: str | None, *, staged: bool
) -> None:
    size = f"{format_count(report.samples, 'sample')} ({format_nbytes(report.nbytes)})"
    for problem in report.skipped:
        console.say(f"skipped {problem}")
    for name, count in report.replaced.items():
        console.say(f"replaced {format_count(count, 'other sample')} in data/{name}")
    outcome = describe_outcome(commit_id, staged=staged)
    console.say(f"imported {size} into {format_count(len(report.columns), 'column')}; {outcome}")
    _tell_left_out(console, report.left_out)
    fields = {**asdict(report), "left_out": report.left_out.as_document()}
    document = {**fields, "commit": commit_id, "changes": changes_document(changes)}
    console.answer(document, [commit_id] if commit_id else [])


def _tell_left_out(console: Console, left_out: LeftOut) -> None:
    if left_out:
        for line in left_out.list_lines() if console.given.verbose else ():
            console.say(f"left out {line}")
        console.say(f"left out {left_out.summarize()}{'' if console.given.verbose else '; see --verbose'}")
