"""Where a verb's words go: data to stdout, talk to stderr, one JSON document with `--json`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stockroom.cli.global_options import Settings
from stockroom.cli.render.printable import as_printable
from stockroom.cli.render.progress import Progress, show_progress

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.remotes.progress import TransferProgress

DOCUMENT_VERSION: Final = 1
"""The version of every JSON document; it grows when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Console:
    """What one verb says, and the repository it works on.

    In a run, a verb calls `answer` once, or `document` once with `--json`, and `line` and `binary` only without it.
    """

    command: str
    settings: Settings

    @property
    def json(self) -> bool:
        """Whether the answer is one JSON document."""
        return self.settings.json

    def line(self, text: str) -> None:
        """Write one line of data to stdout; control characters are shown, not sent."""
        sys.stdout.write(as_printable(text) + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Write lines of data to stdout as they come."""
        for text in texts:
            self.line(text)

    @property
    def has_colours(self) -> bool:
        """Whether stdout is a terminal on which colours are wanted."""
        is_wanted = self.settings.colour and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return is_wanted and not self.settings.json and sys.stdout.isatty()

    def draw(self, lines: Iterable[str]) -> None:
        """Write lines made here with codes for colours, as they are."""
        sys.stdout.writelines(f"{line}\n" for line in lines)

    def binary(self, data: bytes | memoryview) -> None:
        """Write bytes to stdout as they are."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def document(self, fields: Mapping[str, object]) -> None:
        """Write the one JSON document of this command, `fields` after its version and name."""
        document = {"version": DOCUMENT_VERSION, "command": self.command, **fields}
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")

    def answer(
        self,
        document: Mapping[str, object] | Callable[[], Mapping[str, object]],
        lines: Iterable[str] | Callable[[], Iterable[str]] = (),
    ) -> None:
        """Write the document with `--json`, else the lines; a callable is called only if it is the one."""
        if self.json:
            self.document(document() if callable(document) else document)
        else:
            self.lines(lines() if callable(lines) else lines)

    def say(self, text: str) -> None:
        """Tell the person at the terminal, on stderr; not with `-q` or `--json`."""
        if not (self.settings.quiet or self.settings.json):
            sys.stderr.write(as_printable(text) + "\n")

    def progress(self, label: str) -> contextlib.AbstractContextManager[Progress]:
        """A bar on a terminal, else a line every ten seconds; nothing with `-q`."""
        return show_progress(label, bar=self.settings.progress, quiet=self.settings.quiet)

    @contextlib.contextmanager
    def transfer(self, label: str) -> Iterator[Callable[[TransferProgress], None]]:
        """What to call with how far a transfer is; shown as `progress` shows it."""
        with self.progress(label) as progress:

            def show(now: TransferProgress) -> None:
                progress.update(
                    f"{label} {now.stage}",
                    now.files,
                    total=now.total_files,
                    nbytes=now.nbytes,
                    total_nbytes=now.total_nbytes,
                )

            try:
                yield show
            except KeyboardInterrupt:
                self.say(f"{label} interrupted; the same command goes on from there")
                raise

    def open_stock(self, ref: str | None = None, *, needs_head: bool = True) -> StockRoom:
        """A reader of the repository around the working directory, pinned to `ref` or to HEAD.

        HEAD itself may have no commit yet, or, unless it `needs_head`, one that is not here: then the reader is empty.
        """
        from stockroom import StockRoom

        return StockRoom(ref=None if ref == "HEAD" else ref, needs_head=needs_head)

    def open_writer(self, timeout_s: float) -> StockRoom:
        """A writer of the stage; raises `LockedError` where another one holds it for longer than `timeout_s`."""
        from stockroom import StockRoom

        return StockRoom(enable_write=True, timeout_s=timeout_s)

    @contextlib.contextmanager
    def open_staging(self, timeout_s: float) -> Iterator[StockRoom]:
        """A writer of the stage; a stage that was clean is clean again after a failure."""
        with self.open_writer(timeout_s) as stock:
            was_clean = stock.status().clean
            try:
                yield stock
            except BaseException:
                if was_clean:
                    stock.reset()
                raise
