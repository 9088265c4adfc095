"""The leaf nodes of a column's tree as flat vectors, filled node by node as samples are requested.

The vectors are as long as the column, but pages that were never written take no memory.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.trees import Tree


class LeafVectors:
    """The values, or the locations computed from them, of the leaf nodes read so far; as long as the column."""

    def __init__(self, tree: Tree, locate: Callable[[NDArray[np.uint8]], NDArray[np.uint64]] | None) -> None:
        self._tree = tree
        self._locate = locate
        self._directory = tree.directory()
        count, width = tree.count, tree.format.value_width
        self._filled = np.zeros(len(self._directory), bool)
        self.is_whole = False
        self._starts = self._directory.starts.tolist()
        # zeroed pages cost nothing until they are written
        self.values = np.zeros((count, 0 if locate else width), np.uint8)
        self.locations = np.zeros(count if locate else 0, np.uint64)

    def is_filled(self, position: int) -> bool:
        """Return whether the leaf node of a position is resolved."""
        return self.is_whole or bool(self._filled[bisect.bisect_right(self._starts, position) - 1])

    def get_leaf_span(self, position: int) -> tuple[int, int]:
        """Return the first position of the leaf node that holds `position`, and the first after it."""
        leaf = bisect.bisect_right(self._starts, position)
        return self._starts[leaf - 1], self._starts[leaf]

    def fill(self, positions: NDArray[np.int64]) -> None:
        """Resolve the leaf nodes that hold `positions`."""
        if self.is_whole or not len(positions):
            return
        leaves = self._locate_leaves(positions)
        missing = np.unique(leaves[~self._filled[leaves]])
        for start in range(0, len(missing), 256):
            some = missing[start : start + 256]
            try:
                self._fill_leaves(some)
            except CorruptionError:  # perhaps only in samples that were not requested
                self._fill_alone(positions[np.isin(leaves, some)])
        if len(missing):
            self.is_whole = bool(self._filled.all())

    def _fill_alone(self, positions: NDArray[np.int64]) -> None:
        """Resolve only these positions, in leaf nodes that hold damaged samples."""
        leaves = self._locate_leaves(positions)
        for leaf in np.unique(leaves).tolist():
            mine = positions[leaves == leaf]
            values = self._tree.read_leaf(self._directory.digests[leaf].tobytes()).values  # raises if damaged
            if self._locate is not None:
                self.locations[mine] = self._locate(values[mine - self._starts[leaf]])
            else:
                self.values[mine] = values[mine - self._starts[leaf]]

    def _locate_leaves(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._directory.starts, positions, side="right") - 1

    def _fill_leaves(self, leaves: NDArray[np.int64]) -> None:
        directory = self._directory
        values = [self._tree.read_leaf(directory.digests[leaf].tobytes()).values for leaf in leaves.tolist()]
        spans = [slice(int(directory.starts[leaf]), int(directory.starts[leaf + 1])) for leaf in leaves.tolist()]
        if self._locate is None:
            for span, rows in zip(spans, values, strict=True):
                self.values[span] = rows
        else:
            located = self._locate(np.concatenate(values))
            start = 0
            for span, rows in zip(spans, values, strict=True):
                self.locations[span] = located[start : start + len(rows)]
                start += len(rows)
        self._filled[leaves] = True
