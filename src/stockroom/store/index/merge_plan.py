"""Which location tables are merged, and by whom.

A table is merged once all newer ones together have half its rows. A row is then rewritten about once for each doubling
of the index, and the number of tables is logarithmic.
"""

from __future__ import annotations

from collections.abc import Sequence

from stockroom.store.index.catalog import TableRecord

SMALL_ROWS = 1 << 15
"""Tables of at most this many rows are merged inside transactions, larger ones only by `LocationIndex.merge`."""
FREE_ROWS = 1 << 20
"""A process that adds a pack may merge this many rows, however small the pack is: some 30 ms of work."""


def plan_small_merge(records: Sequence[TableRecord], new_rows: int) -> list[TableRecord]:
    """Return the newest tables to merge with one of `new_rows` inside a transaction, oldest first."""
    total = new_rows
    merged: list[TableRecord] = []
    for record in reversed(records):
        if record.rows >= 2 * total or record.rows > SMALL_ROWS:
            break
        total += record.rows
        merged.append(record)
    return merged[::-1]


def select_large(records: Sequence[TableRecord]) -> list[TableRecord]:
    """Return the tables, oldest first, up to the newest that no transaction merges."""
    large = [index for index, record in enumerate(records) if record.rows > SMALL_ROWS]
    return list(records[: large[-1] + 1]) if large else []


def plan_merge(records: Sequence[TableRecord], max_rows: int | None) -> list[TableRecord]:
    """Return the large tables to merge, oldest first: neighbors of at most `max_rows` rows, none by far the largest."""
    total = 0
    merged: list[TableRecord] = []
    for record in reversed(select_large(records)):
        if merged and (record.rows >= 2 * total or (max_rows is not None and total + record.rows > max_rows)):
            break
        total += record.rows
        merged.append(record)
    return merged[::-1] if len(merged) > 1 else []
