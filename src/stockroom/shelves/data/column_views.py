"""What `column.values()` and `column.items()` give: views that read many samples at a time."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING

import numpy as np

from stockroom.shelves.data.keys import SampleKey
from stockroom.shelves.data.sample_reader import Sample

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column
_SAMPLES_AT_ONCE = 256


class ColumnValues(ValuesView[Sample]):
    """`column.values()`."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._column = column

    def __iter__(self) -> Iterator[Sample]:
        return _iter_samples(self._column)


class ColumnItems(ItemsView[SampleKey, Sample]):
    """`column.items()`."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._column = column

    def __iter__(self) -> Iterator[tuple[SampleKey, Sample]]:
        return zip(self._column, _iter_samples(self._column), strict=True)


def _iter_samples(column: Column) -> Iterator[Sample]:
    count, ahead = len(column), column.read_ahead()
    for start in range(0, count, _SAMPLES_AT_ONCE):
        positions = np.arange(start, min(start + _SAMPLES_AT_ONCE, count))
        if ahead is not None:
            ahead.see(positions)
        batch = column.take(positions)
        for position in range(len(batch)):
            column.check_open()
            yield batch[position, ...] if isinstance(batch, np.ndarray) else batch[position]
