"""Averages two tensors of a model for a merge: read, averaged and put piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import measure_leaf, name_storage
from stockroom.content.state import STATE_ENTRIES
from stockroom.shelves.entry_reader import EntryReader
from stockroom.shelves.model.flatten import LeafBytes
from stockroom.shelves.model.state_writer import put_leaf
from stockroom.store.dtypes import parse_dtype

if TYPE_CHECKING:
    from stockroom.content.merge.states import Average
    from stockroom.content.nodes import ArrayLeaf
    from stockroom.repository.writing.workspace import Workspace

_PIECE: Final = 1 << 20


def make_average(workspace: Workspace) -> Average:
    """Return a function that averages two tensors of one floating dtype, in float64 and rounded once at the end."""

    def average(leaf: ArrayLeaf, ours: bytes, theirs: bytes) -> bytes:
        reader = EntryReader(workspace.nodes, workspace.repository.tensors)
        one, other = reader.read([STATE_ENTRIES.decode(ours), STATE_ENTRIES.decode(theirs)])
        nbytes = measure_leaf(leaf)
        assert nbytes is not None
        pieces = _MeanPieces(one, other, parse_dtype(name_storage(leaf.dtype)))
        return put_leaf(workspace, LeafBytes("", leaf.dtype, leaf.shape, nbytes, pieces))

    return average


@dataclass(frozen=True, slots=True, eq=False)
class _MeanPieces:
    one: NDArray[np.uint8]
    other: NDArray[np.uint8]
    dtype: np.dtype[Any]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        ours, theirs = self.one.view(self.dtype), self.other.view(self.dtype)
        for start in range(0, len(ours), _PIECE):
            part = slice(start, start + _PIECE)
            mean = (ours[part].astype(np.float64) + theirs[part].astype(np.float64)) / 2
            yield mean.astype(self.dtype).view(np.uint8)
