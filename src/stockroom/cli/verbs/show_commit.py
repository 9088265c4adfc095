"""A commit described: who made it, what it changed, and what it ties together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from stockroom.cli.render.change import changes_document, changes_of_diff, iter_stat_lines
from stockroom.cli.render.commit import commit_document, iter_commit_lines
from stockroom.cli.render.contents import LISTERS, Item, list_versions
from stockroom.cli.render.table import iter_table_lines
from stockroom.errors import RefNotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.console import Console

_MARKS: Final = {"added": "+"}


def show_commit(console: Console, stock: StockRoom, ref: str) -> None:
    """Print the handle's commit, named by `ref`."""
    commit = next(stock.log(n=1), None)
    if commit is None:
        raise RefNotFoundError("HEAD has no commit yet; `stock commit` makes the first", ref=ref)
    changes = changes_of_diff(stock.changes())
    kinds = {change.path: change.kind for change in changes}
    held = {shelf: list_versions(stock) if shelf == "data" else lister(stock) for shelf, (_, lister) in LISTERS.items()}
    if console.json:
        holds = {LISTERS[shelf][0]: _documents(items, kinds) for shelf, items in held.items()}
        console.document(
            {"commit": commit_document(commit), "changes": changes_document(changes), "holds": holds},
        )
        return
    console.lines(iter_commit_lines(commit))
    console.line()
    console.lines(iter_stat_lines(changes))
    console.line()
    console.line("Holds (+ new, ~ changed):")
    for items in held.values():
        console.lines(_iter_item_lines(items, kinds))


def _documents(items: Sequence[Item], kinds: Mapping[str, str]) -> list[dict[str, object]]:
    """The items as JSON, with what the commit did to each: null where it left it as it was."""
    return [item.document | {"change": kinds.get(item.path)} for item in items]


def _iter_item_lines(items: Sequence[Item], kinds: Mapping[str, str]) -> Iterator[str]:
    marks = [_MARKS.get(kinds[item.path], "~") if item.path in kinds else " " for item in items]
    for mark, line in zip(marks, iter_table_lines([item.cells for item in items]), strict=True):
        yield f" {mark} {line}"
