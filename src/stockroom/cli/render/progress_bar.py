"""The progress bar of a terminal; only this module of the command line imports rich for it."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stockroom.cli.render.units import format_nbytes
from stockroom.content.printable import as_line


class RateColumn(ProgressColumn):
    """Samples and bytes per second."""

    def render(self, task: Task) -> Text:
        """Return `1,200/s 3.5 MiB/s`, empty until there is a rate."""
        if not task.speed:
            return Text("")
        if "counts" in task.fields:
            return Text(f"{format_nbytes(int(task.speed))}/s")
        per_sample = task.fields.get("nbytes", 0) / max(task.completed, 1)
        rate = f"{task.speed:,.0f}/s"
        if per_sample:
            rate += f" {format_nbytes(int(task.speed * per_sample))}/s"
        return Text(rate)


class CountColumn(MofNCompleteColumn):
    """Samples, or files and bytes."""

    def render(self, task: Task) -> Text:
        """Return `1200/5000`, or `3/12 files, 41.0 MiB of 1.1 GiB`."""
        counts = task.fields.get("counts")
        return super().render(task) if counts is None else Text(counts)


@dataclass(frozen=True, slots=True)
class BarProgress:
    """Shows reports as one bar."""

    bar: Progress
    task: TaskID

    def update(
        self, label: str, done: int, *, total: int | None = None, nbytes: int = 0, total_nbytes: int | None = None
    ) -> None:
        """Move the bar to `done` of `total`, or for a transfer to `nbytes` of `total_nbytes`."""
        if total_nbytes is None:
            self.bar.update(self.task, description=as_line(label), completed=done, total=total, nbytes=nbytes)
            return
        counts = f"{done}/{total} files, {format_nbytes(nbytes)} of {format_nbytes(total_nbytes)}"
        self.bar.update(self.task, description=as_line(label), completed=nbytes, total=total_nbytes, counts=counts)


def make_bar() -> Progress:
    """Return an empty bar on stderr, which disappears when it stops; descriptions are plain text, never markup."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        CountColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
