"""Columns of text, lined up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def iter_table_lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Each row's cells padded to the widest of its column, two spaces apart."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def iter_headed_lines(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """`rows`, if there are any, lined up below `headings`, without the columns in which no row has anything."""
    if not rows:
        return
    kept = [column for column, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    yield from iter_table_lines([tuple(row[column] for column in kept) for row in (headings, *rows)])
