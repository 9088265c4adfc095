"""Iteration over a column's samples: how many are read at once, and the views that `values` and `items` return."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.shelves.data.keys import SampleKey
from stockroom.shelves.data.open_column import OpenColumn
from stockroom.shelves.data.sample_reader import Sample
from stockroom.shelves.read_ahead import ReadAhead

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column

_SAMPLES_AT_ONCE: Final = 256
_NBYTES_AT_ONCE: Final = 8 << 20
"""How many bytes an iteration reads at once, unless a single sample takes more."""


def iter_windows(opened: OpenColumn, ahead: ReadAhead | None) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of all samples, in order, as arrays of those to be read at once."""
    start, count = 0, opened.tree.count
    while start < count:
        window = np.arange(start, min(start + _SAMPLES_AT_ONCE, count))
        positions = window[: opened.reader.count_within(window, _NBYTES_AT_ONCE)]
        start += len(positions)
        if ahead is not None:
            ahead.see(positions)
        yield positions


class Values(ValuesView[Sample]):
    """The samples of a column, in key order. An iteration keeps to the samples of its start."""

    _mapping: Column

    def __iter__(self) -> Iterator[Sample]:
        return self._mapping.freeze().iter_samples()


class Items(ItemsView[SampleKey, Sample]):
    """The keys and samples of a column, in key order. An iteration keeps to those of its start."""

    _mapping: Column

    def __iter__(self) -> Iterator[tuple[SampleKey, Sample]]:
        column = self._mapping.freeze()
        return zip(column, column.iter_samples(), strict=True)
