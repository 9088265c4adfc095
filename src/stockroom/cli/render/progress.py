"""Shows progress of long work on stderr: a bar on a terminal, otherwise a line at least every ten seconds.

rich is imported only to draw a bar.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

from stockroom.cli.render.units import format_nbytes
from stockroom.content.printable import as_line

HEARTBEAT_S: Final = 10.0


class Progress(Protocol):
    """The interface through which a verb reports progress."""

    def update(
        self, label: str, done: int, *, total: int | None = None, nbytes: int = 0, total_nbytes: int | None = None
    ) -> None:
        """Report `done` samples or files of `total` (None: unknown) under `label`, and `nbytes` of `total_nbytes`."""


@contextlib.contextmanager
def show_progress(label: str, *, bar: bool, quiet: bool) -> Iterator[Progress]:
    """Yield a `Progress` that suits stderr for the work in the block."""
    if quiet:
        yield Heartbeat(label)  # nothing prints it
    elif bar and sys.stderr.isatty():
        from stockroom.cli.render.progress_bar import BarProgress, make_bar  # here for start-up time

        with make_bar() as drawn:
            yield BarProgress(drawn, drawn.add_task(label, total=None))
    else:
        with tell_heartbeat(label, stream=sys.stderr) as progress:
            yield progress


@dataclass(slots=True)
class Heartbeat:
    """Keeps the last report and formats it as a line; one thread writes it, another reads it."""

    label: str
    started_s: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int | None = None
    nbytes: int = 0
    total_nbytes: int | None = None

    def update(
        self, label: str, done: int, *, total: int | None = None, nbytes: int = 0, total_nbytes: int | None = None
    ) -> None:
        """Store the newest report."""
        self.label, self.done, self.total = label, done, total
        self.nbytes, self.total_nbytes = nbytes, total_nbytes

    def line(self) -> str:
        """Return `import image: 1200 of 5000, 41.0 MiB, 20 s`; for a transfer, also its rate and the time left."""
        elapsed_s = time.monotonic() - self.started_s
        parts = []
        if self.done:
            parts.append(f"{self.done} of {self.total}" if self.total is not None else f"{self.done}")
        if self.nbytes:
            parts.append(format_nbytes(self.nbytes))
        if self.nbytes and self.total_nbytes is not None:
            parts[-1] += f" of {format_nbytes(self.total_nbytes)}"
            parts.append(f"{format_nbytes(int(self.nbytes / max(elapsed_s, 1e-3)))}/s")
            parts.append(f"about {elapsed_s * (self.total_nbytes / self.nbytes - 1):.0f} s left")
        return f"{as_line(self.label)}: {', '.join([*parts, f'{elapsed_s:.0f} s'])}"


@contextlib.contextmanager
def tell_heartbeat(label: str, *, stream: TextIO, interval_s: float = HEARTBEAT_S) -> Iterator[Progress]:
    """Write the newest report to `stream` every `interval_s`, even if the work does not report."""
    heartbeat = Heartbeat(label)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(interval_s):
            stream.write(heartbeat.line() + "\n")
            stream.flush()

    thread = threading.Thread(target=beat, name="stock-heartbeat", daemon=True)
    thread.start()
    try:
        yield heartbeat
    finally:
        stop.set()
        thread.join()
