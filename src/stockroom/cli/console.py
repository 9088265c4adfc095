"""The output of a verb: data to stdout, messages to stderr, one JSON document with `--json`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stockroom.cli.global_options import OptionValues
from stockroom.cli.output import write_binary_output, write_output
from stockroom.cli.render.progress import Progress, show_progress
from stockroom.content.printable import as_line, as_printable

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.remotes.progress import TransferProgress

DOCUMENT_VERSION: Final = 1
"""The version of every JSON document; it increases when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class Console:
    """The output of one verb, and the repository it works on.

    A run of a verb calls `answer` once, or `document` once with `--json`, and `line` and `binary` only without it.
    """

    command: str
    given: OptionValues

    @property
    def json(self) -> bool:
        """Whether to print one JSON document."""
        return self.given.json

    def line(self, text: str) -> None:
        """Write a text to stdout, with control characters escaped except newlines and tabs."""
        write_output(as_printable(text) + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Write lines of data to stdout as they come, with control characters escaped, newlines too."""
        for text in texts:
            write_output(f"{as_line(text)}\n")

    @property
    def has_colours(self) -> bool:
        """Whether stdout is a terminal, and colors are wanted."""
        is_wanted = self.given.colour and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return is_wanted and not self.given.json and sys.stdout.isatty()

    def draw(self, lines: Iterable[str]) -> None:
        """Write lines that contain color codes unchanged; only for lines made by this program."""
        for line in lines:
            write_output(f"{line}\n")

    def binary(self, data: bytes | memoryview) -> None:
        """Write bytes to stdout unchanged."""
        write_binary_output(data)

    def document(self, fields: Mapping[str, object]) -> None:
        """Write this command's only JSON document: its version and name, then `fields`."""
        document = {"version": DOCUMENT_VERSION, "command": self.command, **fields}
        write_output(json.dumps(document, allow_nan=False) + "\n")

    def answer(
        self,
        document: Mapping[str, object] | Callable[[], Mapping[str, object]],
        lines: Iterable[str] | Callable[[], Iterable[str]] = (),
    ) -> None:
        """Write the document with `--json`, otherwise the lines; a callable is called only if its result is written."""
        if self.json:
            self.document(document() if callable(document) else document)
        else:
            self.lines(lines() if callable(lines) else lines)

    def say(self, text: str) -> None:
        """Write a message to stderr, unless `-q` or `--json` is given."""
        if not (self.given.quiet or self.given.json):
            sys.stderr.write(as_line(text) + "\n")

    def progress(self, label: str) -> contextlib.AbstractContextManager[Progress]:
        """Show a bar on a terminal, otherwise a line every ten seconds; nothing with `-q`."""
        return show_progress(label, bar=self.given.progress, quiet=self.given.quiet)

    @contextlib.contextmanager
    def transfer(self, label: str) -> Iterator[Callable[[TransferProgress], None]]:
        """Yield a callback for the progress of a transfer, which is shown as by `progress`."""
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
                self.say(f"{label} interrupted; run the same command again to resume")
                raise

    def open_stock(self, ref: str | None = None, *, needs_head: bool = True) -> StockRoom:
        """Open the repository around the working directory for reading, pinned to `ref` or HEAD.

        The reader is empty if HEAD has no commit yet, or, without `needs_head`, if its commit is not on this machine.
        """
        from stockroom import StockRoom

        return StockRoom(ref=None if ref == "HEAD" else ref, needs_head=needs_head)

    def open_writer(self, timeout_s: float) -> StockRoom:
        """Open the stage for writing; raises `LockedError` if another writer holds it longer than `timeout_s`."""
        from stockroom import StockRoom

        return StockRoom(enable_write=True, timeout_s=timeout_s)

    @contextlib.contextmanager
    def open_staging(self, timeout_s: float) -> Iterator[StockRoom]:
        """Open the stage for writing; if the block fails, a stage that was clean is reset."""
        with self.open_writer(timeout_s) as stock:
            was_clean = stock.status().clean
            try:
                yield stock
            except BaseException:
                if was_clean:
                    stock.reset(undoable=False)
                raise
