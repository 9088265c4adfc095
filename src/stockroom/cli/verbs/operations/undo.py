"""`stock undo`: undo the last change of a ref or, after a reset, of the stage."""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.render.operation import undone_text
from stockroom.cli.taking_back import report_taken_back, skipping
from stockroom.cli.verb import verb


@verb(example="stock undo")
def undo(console: Console) -> None:
    """Undo the last change of a branch or tag, or a reset of the stage.

    This may be a commit, or the creation, move or deletion of a branch or tag. Run it again to undo the change before.
    `stock redo` takes it back.
    """
    skipped, on_skip = skipping(console)
    with console.open_stock() as stock:
        undone = stock.undo(on_skip=on_skip)
        report_taken_back(console, stock, "undone", undone, undone_text(undone), skipped)
