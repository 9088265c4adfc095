"""The views that a column's `values` and `items` return.

Kept apart: they know only two of a column's methods.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any

from stockroom.shelves.data.keys import SampleKey
from stockroom.shelves.data.sample_reader import Sample


class Values(ValuesView[Sample]):
    """The samples of a column, in key order. An iteration keeps to the samples of its start."""

    _mapping: Any

    def __iter__(self) -> Iterator[Sample]:
        samples: Iterator[Sample] = self._mapping.freeze().iter_samples()
        return samples


class Items(ItemsView[SampleKey, Sample]):
    """The keys and samples of a column, in key order. An iteration keeps to those of its start."""

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[SampleKey, Sample]]:
        column = self._mapping.freeze()
        return zip(column, column.iter_samples(), strict=True)
