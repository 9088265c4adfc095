"""What changed, column by column, as lines and as documents: for `status`, `diff`, `show` and `commit`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from stockroom.cli.printable import format_key
from stockroom.cli.units import format_count

if TYPE_CHECKING:
    from stockroom.repository import Diff, RecordDiff


@dataclass(frozen=True, slots=True)
class Change:
    """How much of one column (`data/COLUMN`) was added, removed and changed, in samples."""

    path: str
    kind: str
    added: int
    removed: int
    changed: int

    def counts_text(self) -> str:
        """`+3 -0 ~1`."""
        return f"+{self.added} -{self.removed} ~{self.changed}"


def changes_of_diff(diff: Diff) -> list[Change]:
    """The counts of a diff, by column."""
    return [change_of_column(path, column) for path, column in diff.items()]


def change_of_column(path: str, column: RecordDiff) -> Change:
    """The counts of one column of a diff."""
    counts = column.counts
    return Change(path, column.kind, counts.added, counts.removed, counts.changed)


def change_document(change: Change) -> dict[str, object]:
    """A change as JSON, without its path."""
    return {name: value for name, value in asdict(change).items() if name != "path"}


def changes_document(changes: Sequence[Change]) -> dict[str, object]:
    """Path -> change, as JSON."""
    return {change.path: change_document(change) for change in changes}


def iter_stat_lines(changes: Sequence[Change]) -> Iterator[str]:
    """One line a column, then the sum: `git diff --stat` for samples."""
    width = max((len(change.path) for change in changes), default=0)
    for change in changes:
        yield f" {change.path:<{width}} | {change.kind:<7} {change.counts_text()}"
    if changes:
        yield f" {summary_text(changes)}"


def summary_text(changes: Sequence[Change]) -> str:
    """`2 columns changed: +70000 -0 ~3`."""
    total = Change(
        "",
        "",
        sum(change.added for change in changes),
        sum(change.removed for change in changes),
        sum(change.changed for change in changes),
    )
    return f"{format_count(len(changes), 'column')} changed: {total.counts_text()}"


def iter_key_lines(column: RecordDiff) -> Iterator[str]:
    """The keys of one column's diff: `+ 5`, `- 6`, `~ 7`; lazily, in that order."""
    yield from _marked("+", column.added)
    yield from _marked("-", column.removed)
    yield from _marked("~", column.changed)


def keys_document(column: RecordDiff) -> dict[str, object]:
    """The keys of one column's diff as JSON."""
    return {
        "added_keys": list(column.added),
        "removed_keys": list(column.removed),
        "changed_keys": list(column.changed),
    }


def _marked(mark: str, keys: Iterable[int | str]) -> Iterator[str]:
    for key in keys:
        yield f"  {mark} {format_key(key)}"
