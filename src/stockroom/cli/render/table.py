"""Aligns columns of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def iter_table_lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield each row's cells, padded to the widest of its column, two spaces apart."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def iter_headed_lines(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield `rows`, if any, aligned below `headings`, without columns that are empty in every row."""
    if not rows:
        return
    kept = [column for column, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    yield from iter_table_lines([tuple(row[column] for column in kept) for row in (headings, *rows)])
