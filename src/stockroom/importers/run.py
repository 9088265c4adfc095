"""Importing: columns from an importer into a repository's stage.

Owns the loop and its progress. Writes through the data shelf alone and commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stockroom.importers.source import Batch, ColumnSource


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Where an import stands after a batch.

    `column` is number `column_index` (from 0) of `column_count`; `samples` of it are in, out of
    `sample_count` where that is known; `nbytes` counts over all columns.
    """

    column: str
    column_index: int
    column_count: int
    samples: int
    sample_count: int | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import brought in: names of columns, samples over all of them, and their raw bytes."""

    columns: tuple[str, ...]
    samples: int
    nbytes: int


class ColumnWriter(Protocol):
    """What importing needs of a column."""

    def extend(self, values: Batch) -> object:
        """Add samples `(n, *shape)` under the next keys."""


class DataWriter(Protocol):
    """What importing needs of the data shelf."""

    def create(
        self, name: str, *, dtype: Any, shape: Sequence[int | None], attrs: Mapping[str, Any] | None
    ) -> ColumnWriter:
        """A new, empty column."""

    def __contains__(self, name: object) -> bool: ...
    def __delitem__(self, name: str) -> None: ...


class StockWriter(Protocol):
    """What importing needs of a repository open for writing."""

    @property
    def data(self) -> DataWriter:
        """The data shelf."""


def import_into(
    stock: StockWriter,
    sources: Sequence[ColumnSource],
    *,
    on_progress: Callable[[ImportProgress], None] | None = None,
) -> ImportReport:
    """Stage every column of `sources`, replacing those of the same name; commits nothing.

    What is stored already is not stored again, so an interrupted import is continued by running it again.
    Raises what reading a source raises; what was staged before is then the caller's to keep or reset.
    """
    samples = nbytes = 0
    for index, source in enumerate(sources):
        column = _create_column(stock.data, source)
        column_samples = 0
        for batch in source.batches():
            column.extend(batch)
            column_samples += len(batch)
            nbytes += batch.nbytes
            if on_progress:
                on_progress(ImportProgress(source.name, index, len(sources), column_samples, source.count, nbytes))
        samples += column_samples
    return ImportReport(tuple(source.name for source in sources), samples, nbytes)


def _create_column(shelf: DataWriter, source: ColumnSource) -> ColumnWriter:
    if source.name in shelf:
        del shelf[source.name]
    return shelf.create(source.name, dtype=source.dtype, shape=source.shape, attrs=source.attrs)
