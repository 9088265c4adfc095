"""The leaf nodes of a column's tree as flat vectors, filled as samples are requested.

The vectors are as long as the column, but pages that were never written take no memory. The first positions requested
are located one by one, so that a batch opens only its own packs. Later, whole leaf nodes are located at once.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.store.index.shared_vectors import order_writes
from stockroom.trees import Tree

_MAX_ALONE = 1 << 14
_MAX_ALONE_PART = 8
"""The part of a column, or of a leaf node, up to which positions are located one by one is one in this many."""
_LEAST_ALONE = 256
"""Each request counts as one of at least so many positions: one by one, whole leaf nodes soon cost less."""
_LEAVES_AT_ONCE = 256
_ONE = np.uint64(1)
"""Locations are kept plus one: zero is a position that is not resolved."""


class LeafVectors:
    """The values, or the locations computed from them, of the leaf nodes read so far; as long as the column."""

    def __init__(
        self,
        tree: Tree,
        locate: Callable[[NDArray[np.uint8]], NDArray[np.uint64]] | None,
        share: Callable[[int], NDArray[np.uint8] | None] = lambda _: None,
    ) -> None:
        """Read values, or with `locate` locations; into the zeros that `share` returns if others fill them too."""
        self._tree = tree
        self._locate = locate
        self._directory = tree.directory()
        count, leaves = tree.count, len(self._directory)
        self._filled = np.zeros(leaves, bool)
        self.is_whole = False
        self._starts = self._directory.starts.tolist()
        self._may_locate_alone = min(_MAX_ALONE, count // _MAX_ALONE_PART) if locate else 0
        width = 0 if locate else tree.format.value_width
        nbytes = 8 * count if locate else count * width + leaves
        shared = share(nbytes)
        stored = np.zeros(nbytes, np.uint8) if shared is None else shared  # zeros take no memory until they are written
        self._located = stored[: 8 * count if locate else 0].view(np.uint64)
        self.values = stored[: count * width].reshape(count, width)
        self._filled_by_any = None if locate or shared is None else stored[count * width :].view(bool)

    def get_locations(self, positions: NDArray[np.int64] | slice) -> NDArray[np.uint64]:
        """Return the locations at resolved positions, `(n,)`."""
        located: NDArray[np.uint64] = self._located[positions] - _ONE
        return located

    def locate(self, position: int) -> int:
        """Return the location at a position, which is resolved if need be."""
        located: int = self._located.item(position)
        if not located:
            self.fill(np.array([position], np.int64))
            located = self._located.item(position)
        return located - 1

    def is_filled(self, position: int) -> bool:
        """Return whether the leaf node of a position is resolved."""
        return self.is_whole or bool(self._filled[bisect.bisect_right(self._starts, position) - 1])

    def get_leaf_span(self, position: int) -> tuple[int, int]:
        """Return the first position of the leaf node that holds `position`, and the first after it."""
        leaf = bisect.bisect_right(self._starts, position)
        return self._starts[leaf - 1], self._starts[leaf]

    def forget(self, positions: NDArray[np.int64]) -> None:
        """Make positions unresolved again: their locations are no longer right."""
        self._located[positions] = 0
        self._filled[self._locate_leaves(positions)] = False
        self.is_whole = False

    def fill(self, positions: NDArray[np.int64]) -> None:
        """Resolve `positions`: alone, or with their whole leaf nodes."""
        if self.is_whole or not len(positions):
            return
        if self._locate is not None:
            positions = positions[self._located[positions] == 0]
        leaves = self._locate_leaves(positions)
        is_missing = ~self._filled[leaves]
        if self._filled_by_any is not None and is_missing.any():
            is_missing &= ~self._take_filled(leaves)
        if not is_missing.any():
            return
        if self._may_locate_alone > 0:
            is_missing &= ~self._fill_sparse(positions, leaves, is_missing)
        missing = np.unique(leaves[is_missing]) if is_missing.any() else leaves[:0]  # the first unique loads much code
        for start in range(0, len(missing), _LEAVES_AT_ONCE):
            some = missing[start : start + _LEAVES_AT_ONCE]
            try:
                self._fill_leaves(some)
            except CorruptionError:  # perhaps only in samples that were not requested
                self._fill_alone(positions[np.isin(leaves, some)])
        self.is_whole = bool(self._filled.all())

    def _take_filled(self, leaves: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Take over the values that other processes read; returns which of `leaves` they filled."""
        assert self._filled_by_any is not None
        is_filled = self._filled_by_any[leaves]
        order_writes()
        self._filled[leaves[is_filled]] = True
        return is_filled

    def _fill_sparse(
        self, positions: NDArray[np.int64], leaves: NDArray[np.int64], is_missing: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Resolve alone the missing positions in leaf nodes of which few are requested; returns which these are."""
        starts = self._directory.starts
        requested = np.bincount(leaves[is_missing], minlength=len(self._filled))
        is_sparse = is_missing & (requested * _MAX_ALONE_PART < starts[1:] - starts[:-1])[leaves]
        if is_sparse.any():
            self._fill_alone(positions[is_sparse])
            self._may_locate_alone -= max(_LEAST_ALONE, int(np.count_nonzero(is_sparse)))
            for leaf in np.flatnonzero(np.bincount(leaves[is_sparse])).tolist():
                self._filled[leaf] = self._located[starts[leaf] : starts[leaf + 1]].all()
        return is_sparse

    def _fill_alone(self, positions: NDArray[np.int64]) -> None:
        """Resolve only these positions."""
        values = np.empty((len(positions), self._tree.format.value_width), np.uint8)
        for leaf, where in self._group_by_leaf(positions):
            rows = positions[where] - self._starts[leaf]
            values[where] = self._tree.read_leaf(self._directory.digests[leaf].tobytes()).values[rows]
        if self._locate is None:
            self.values[positions] = values
        else:
            self._located[positions] = self._locate(values) + _ONE

    def _group_by_leaf(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield each leaf node that holds some of `positions`, and where these are in `positions`."""
        leaves = self._locate_leaves(positions)
        order = np.argsort(leaves, kind="stable")
        ordered = leaves[order]
        stops = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        return zip(ordered[[0, *stops]].tolist(), np.split(order, stops), strict=True)

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
            located = self._locate(np.concatenate(values)) + _ONE
            start = 0
            for span, rows in zip(spans, values, strict=True):
                self._located[span] = located[start : start + len(rows)]
                start += len(rows)
        self._filled[leaves] = True
        if self._filled_by_any is not None:
            order_writes()
            self._filled_by_any[leaves] = True
