"""`stock undo`: undo the last change of a ref."""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.render.operation import operation_document, undone_text
from stockroom.cli.verb import verb


@verb(example="stock undo")
def undo(console: Console) -> None:
    """Undo the last change of a branch or tag.

    This may be a commit, or the creation, move or deletion of a branch or tag. Run it again to undo the change before.
    """
    with console.open_stock() as stock:
        undone = stock.undo()
        branch, commit_id = stock.branch, stock.commit_id
    where = "" if undone.ref == f"branch/{branch}" else "; HEAD did not move"
    console.say(f"undid {undone.kind}: {undone_text(undone)}{where}")
    console.answer({"undone": operation_document(undone), "branch": branch, "commit": commit_id})
