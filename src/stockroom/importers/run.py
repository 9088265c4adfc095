"""Imports columns from an importer into a repository's stage.

Owns the loop and its progress. Writes through the data shelf alone, and commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import ColumnSource, KeyedSource, Source, TableSource
from stockroom.shelves.data.appending import append_behind
from stockroom.shelves.data.table import GrowingColumns, Values, measure_value

if TYPE_CHECKING:
    from stockroom.content.column_edit import ColumnEdit
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.stock.stock import StockRoom


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """The progress of an import after a batch.

    `column` is number `column_index` (from 0) of `column_count`; `samples` of it are imported, out of `sample_count` if
    that is known; `nbytes` counts over all columns.
    """

    column: str
    column_index: int
    column_count: int
    samples: int
    sample_count: int | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import: names of columns, their samples and raw bytes in all, and the input that was skipped.

    `replaced` are the columns of the same names that had other samples before, and how many. `left_out` counts the
    parts of the input that are of no kind that can be imported.
    """

    columns: tuple[str, ...]
    samples: int
    nbytes: int
    skipped: tuple[str, ...] = ()
    replaced: Mapping[str, int] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)


def import_into(
    stock: StockRoom,
    sources: Sequence[Source],
    *,
    append: bool = False,
    on_progress: Callable[[ImportProgress], None] | None = None,
) -> ImportReport:
    """Stage every column of `sources`, replacing those of the same name; commit nothing.

    With `append`, the samples go behind those that the columns have, under further int keys. Raises `SchemaError` if a
    column has another dtype, other axes or attrs of other values.

    Stored content is not stored again, so an interrupted import is continued by running it again. Errors from reading a
    source pass through; the caller then keeps or resets the stage.
    """
    columns: list[str] = []
    skipped: list[str] = []
    before: dict[str, ColumnEdit] = {}
    left_out = LeftOut()
    samples = nbytes = 0
    shelf = stock.data
    for index, source in enumerate(sources):
        is_table = isinstance(source, TableSource)
        for step in (_fill_table if is_table else _fill_column)(shelf, source, before):  # type: ignore[arg-type]
            now = ImportProgress(step.column, index, len(sources), step.rows, source.count, nbytes + step.nbytes)
            if on_progress and step.rows:
                on_progress(now)
        columns += step.names
        samples += step.samples
        nbytes += step.nbytes
        skipped += source.skipped if isinstance(source, TableSource) else ()
        left_out.merge(source.left_out)
    replaced = {name: edit.tree.count for name, edit in before.items() if _is_other(shelf, name, edit)}
    if append:
        append_behind(shelf, columns, before)
        replaced = {}
    return ImportReport(tuple(columns), samples, nbytes, tuple(skipped), replaced, left_out)


def _is_other(shelf: DataShelf, name: str, edit: ColumnEdit) -> bool:
    """Return whether a column has other samples than it had before."""
    return edit.tree.count > 0 and (name not in shelf or shelf[name].root != edit.tree.root.hex())


@dataclass(frozen=True, slots=True)
class _Step:
    """The progress of one source: `rows` and `samples` of it are imported; `names` are its columns so far."""

    column: str
    names: tuple[str, ...]
    rows: int = 0
    samples: int = 0
    nbytes: int = 0


def _fill_column(
    shelf: DataShelf, source: ColumnSource | KeyedSource, before: dict[str, ColumnEdit]
) -> Iterator[_Step]:
    before |= {name: edit for name, edit in shelf.take_out(source.name).items() if edit is not None}
    column = _create_column(shelf, source)
    step = _Step(source.name, (source.name,))
    yield step
    for keys, batch in _iter_keyed(source):
        if keys is None:
            column.extend(batch) if len(batch) else None  # a column of str keys refuses even an empty batch
        else:
            column.update(zip(keys, batch, strict=True))
        rows = step.rows + len(batch)
        if len(column) != rows:
            raise InvalidInputError(f"column {source.name!r}: expected {rows} distinct keys, found {len(column)}")
        nbytes = batch.nbytes if isinstance(batch, np.ndarray) else sum(map(measure_value, batch))
        step = _Step(source.name, (source.name,), rows, rows, step.nbytes + nbytes)
        yield step
    shelf.keep_keys(source.name)


def _create_column(shelf: DataShelf, source: ColumnSource | KeyedSource) -> Column:
    """Return a new column for encoded samples."""
    if isinstance(source, ColumnSource):
        return shelf.create(source.name, dtype=source.dtype, shape=source.shape, attrs=source.attrs)
    is_text = source.schema.dtype in ("str", "bytes")
    return shelf.create(
        source.name,
        dtype=source.schema.dtype,
        shape=() if is_text else source.schema.shape,
        keys=source.key_type,
        attrs=source.attrs,
        decoder=source.decoder,
    ).encoded


def _iter_keyed(source: ColumnSource | KeyedSource) -> Iterator[tuple[Sequence[Any] | None, Values]]:
    if isinstance(source, KeyedSource):
        return source.batches()
    return ((None, batch) for batch in source.batches())


def _fill_table(shelf: DataShelf, source: TableSource, before: dict[str, ColumnEdit]) -> Iterator[_Step]:
    columns = GrowingColumns(shelf, source.plans)
    nbytes = 0
    yield _Step(source.name, columns.names)
    for batch in source.batches():
        nbytes += columns.add(batch)
        yield _Step(source.name, columns.names, columns.rows, columns.samples, nbytes)
    columns.finish()
    absent = frozenset(columns.absent)
    for plan in source.plans:
        if plan.name in absent:
            source.left_out.add(f"{source.name}: column {plan.name!r}", plan.absence, "column")
    before |= columns.before
