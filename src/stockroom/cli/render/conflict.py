"""Conflicts, and an unfinished merge, as lines and documents.

Each side is shown in a few characters: its value if that is small and on this machine, otherwise its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, TypeAlias

from stockroom.cli.render.commit import short_id
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.render.units import format_count
from stockroom.errors import StockroomError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.content.merge.conflict import Conflict
    from stockroom.shelves.report import MergeUnderWay

Describe: TypeAlias = "Callable[[Conflict], tuple[str, str]]"
"""Returns short texts for ours and theirs."""

_NOTHING: Final = "-"
_WIDTH: Final = 24
_HEADINGS: Final = ("path", "key", "kind", "ours", "theirs")


def iter_conflict_lines(
    conflicts: Sequence[Conflict], ours: str | None = None, theirs: str | None = None
) -> Iterator[str]:
    """Yield a table of conflicts: path, key, kind, and both sides, read from their commits if these are known."""
    if conflicts:
        with open_sides(ours, theirs) as describe:
            rows = [(*_make_cells(conflict), *describe(conflict)) for conflict in conflicts]
        yield from iter_headed_lines(_HEADINGS, rows)


def conflict_document(conflict: Conflict) -> dict[str, object]:
    """Return a conflict as JSON; digests are of raw bytes or of records, null if a side has nothing."""
    return asdict(conflict)


def merge_document(merge: MergeUnderWay | None) -> dict[str, object] | None:
    """Return an unfinished merge as JSON; null for none."""
    return None if merge is None else asdict(merge)


def iter_merge_lines(merge: MergeUnderWay, ours: str | None) -> Iterator[str]:
    """Yield an unfinished merge into the commit `ours` in words, with its open conflicts."""
    what = f" of {short_id(merge.commit)}" if merge.commit else ""
    way_out = "`stock merge --abort` gives it up"
    if merge.conflicts:
        count = format_count(len(merge.conflicts), "open conflict")
        yield f"A {merge.kind}{what} is under way, with {count}; `stock resolve` decides, {way_out}:"
    else:
        yield f"A {merge.kind}{what} is under way; `stock merge --continue` commits it, {way_out}"
    yield from iter_conflict_lines(merge.conflicts, ours, merge.commit)


def _make_cells(conflict: Conflict) -> tuple[str, ...]:
    key = "" if conflict.key is None else format_key(conflict.key)
    return format_key(conflict.path), key, conflict.kind


def describe_by_digest(conflict: Conflict) -> tuple[str, str]:
    """Return the first digits of the digest on each side."""
    ours, theirs = (short_id(digest) if digest else _NOTHING for digest in (conflict.ours, conflict.theirs))
    return ours, theirs


@contextmanager
def open_sides(ours: str | None, theirs: str | None) -> Iterator[Describe]:
    """Yield a function that describes conflicts between two commits without fetching; None is an unknown commit."""
    from stockroom import StockRoom

    with ExitStack() as opened:
        sides: list[StockRoom | None] = []
        for ref in (ours, theirs):
            side = None
            with suppress(StockroomError):
                side = None if ref is None else opened.enter_context(StockRoom(ref=ref, lazy=False))
            sides.append(side)

        def describe(conflict: Conflict) -> tuple[str, str]:
            digests = conflict.ours, conflict.theirs
            by_digest = describe_by_digest(conflict)
            our_text, their_text = (
                (None if side is None or digest is None else _find_text(side, conflict, digest)) or shown
                for side, digest, shown in zip(sides, digests, by_digest, strict=True)
            )
            return our_text, their_text

        yield describe


def _find_text(side: StockRoom, conflict: Conflict, digest: str) -> str | None:
    from stockroom.cli.render.experiment import shorten  # imports numpy

    text = None
    with suppress(StockroomError):
        text = _read_text(side, conflict, digest)
    return None if text is None else shorten(text, _WIDTH)


def _read_text(side: StockRoom, conflict: Conflict, digest: str) -> str | None:
    """Return a sample of one element or a text, or a value; None for anything else, and for absent samples."""
    from stockroom.shelves.experiment.cells import format_cell

    shelf, _, name = conflict.path.partition("/")
    key = conflict.key
    if shelf == "data" and key is not None and key in side.data[name] and side.data[name].digest(key) == digest:
        sample = side.data[name][key] if side.data[name].present([key]) == 1 else None
        if isinstance(sample, str | bytes):
            return repr(sample)
        return str(sample) if sample is not None and sample.size == 1 else None
    if shelf == "experiment":
        cells = side.experiment.outline(name)
        return format_cell(cells[name]) if name in cells else None
    return None
