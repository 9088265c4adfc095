"""`stock redo`: take back the last undo."""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.render.operation import done_text
from stockroom.cli.taking_back import report_taken_back, skipping
from stockroom.cli.verb import verb


@verb(example="stock redo")
def redo(console: Console) -> None:
    """Take back the last undo.

    Run it again to take back the undo before. After any other change, nothing can be
    redone.
    """
    skipped, on_skip = skipping(console)
    with console.open_stock() as stock:
        redone = stock.redo(on_skip=on_skip)
        report_taken_back(console, stock, "redone", redone, done_text(redone), skipped)
