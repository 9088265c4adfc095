"""Changes by column, model and other path, as lines and documents: for `status`, `diff`, `show` and `commit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from stockroom.cli.address import NOUNS
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.units import format_count

if TYPE_CHECKING:
    from stockroom.content.diff import Diff, RecordDiff


@dataclass(frozen=True, slots=True)
class Change:
    """The numbers of samples, leaves or points that were added, removed and changed at one path."""

    path: str
    kind: str
    added: int
    removed: int
    changed: int

    def counts_text(self) -> str:
        """Return `+3 -0 ~1`."""
        return f"+{self.added} -{self.removed} ~{self.changed}"


def changes_of_diff(diff: Diff) -> list[Change]:
    """Return the counts of a diff for each path."""
    return [change_of_record(path, record) for path, record in diff.items()]


def change_of_record(path: str, record: RecordDiff) -> Change:
    """Return the counts of one column, model, value, metric or artifact of a diff."""
    counts = record.counts
    return Change(path, record.kind, counts.added, counts.removed, counts.changed)


def change_document(change: Change) -> dict[str, object]:
    """Return a change as JSON, without its path."""
    return {name: value for name, value in asdict(change).items() if name != "path"}


def changes_document(changes: Sequence[Change]) -> dict[str, object]:
    """Return changes by path, as JSON."""
    return {change.path: change_document(change) for change in changes}


def iter_stat_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Yield one line for each path, then the totals, like `git diff --stat`."""
    width = max((len(change.path) for change in changes), default=0)
    for change in changes:
        yield f" {change.path:<{width}} | {change.kind:<7} {change.counts_text()}"
    if changes:
        yield f" {summary_text(changes)}"


def summary_text(changes: Sequence[Change]) -> str:
    """Return `2 columns changed: +70000 -0 ~3; 1 model changed: +0 -0 ~62`."""
    by_noun: dict[str, list[Change]] = {noun: [] for noun in NOUNS.values()}
    for change in changes:
        by_noun.setdefault(NOUNS.get(change.path.partition("/")[0], "entry"), []).append(change)
    return "; ".join(_sum_up(noun, some) for noun, some in by_noun.items() if some)


def status_letter(kind: str) -> str:
    """Return git's letter for a change: A, D or M."""
    return {"added": "A", "removed": "D"}.get(kind, "M")


def iter_record_lines(path: str, record: RecordDiff) -> Iterator[str]:
    """Yield the difference at one path: a heading with counts, then its keys."""
    change = change_of_record(path, record)
    yield f"{path}: {change.kind}, {change.counts_text()}"
    yield from iter_key_lines(record)


def iter_key_lines(record: RecordDiff) -> Iterator[str]:
    """Yield the keys of one column's diff, or a model's leaves, as `+ 5`, `- 6`, `~ 7`, in that order."""
    for sign, keys in (("+", record.added), ("-", record.removed), ("~", record.changed)):
        yield from (f"  {sign} {format_key(key)}" for key in keys)


def keys_document(record: RecordDiff) -> dict[str, object]:
    """Return the keys of one column's diff, or a model's leaves, as JSON."""
    return {
        "added_keys": list(record.added),
        "removed_keys": list(record.removed),
        "changed_keys": list(record.changed),
    }


def _sum_up(noun: str, changes: Sequence[Change]) -> str:
    total = Change(
        "", "", sum(c.added for c in changes), sum(c.removed for c in changes), sum(c.changed for c in changes)
    )
    return f"{format_count(len(changes), noun)} changed: {total.counts_text()}"
