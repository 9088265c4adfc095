"""Reads one array or tensor piece by piece, so that the largest can be gone through in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from numpy.typing import NDArray

from stockroom.content.nodes import ArrayLeaf, StridedLeaf, measure_element
from stockroom.errors import CorruptionError
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.model.leaf_values import LoadOptions, ValueMaker, as_array

PIECE_NBYTES: Final = 4 << 20


def iter_pieces(reader: LeafReader, path: str, *, nbytes: int = PIECE_NBYTES) -> Iterator[NDArray[Any]]:
    """The values of a leaf, flat and in C order, in arrays of about `nbytes`; for an empty one there may be none.

    Where numpy has no such dtype, one axis more: what an element is made of. Of a tensor that shares its memory or
    repeats its own all that memory is read at once, mapped where it can be.
    """
    path = reader.structure.origin(path)
    leaf = reader.structure.leaves[path]
    if isinstance(leaf, StridedLeaf):
        yield from _iter_strided(reader, path, leaf, nbytes)
    elif isinstance(leaf, ArrayLeaf):
        itemsize = measure_element(leaf.dtype)
        for raw in reader.iter_bytes(path, nbytes):
            if len(raw) % itemsize:
                raise CorruptionError(f"leaf {path!r}: a chunk ends within an element; run `stock fsck`")
            yield as_array(raw, leaf.dtype, (len(raw) // itemsize,))


def _iter_strided(reader: LeafReader, path: str, leaf: StridedLeaf, nbytes: int) -> Iterator[NDArray[Any]]:
    maker = ValueMaker(reader, LoadOptions(as_numpy=True))
    maker.read([path])
    array = maker.make(path, leaf)
    parts = array.shape[len(leaf.shape) :]
    step = max(1, nbytes // measure_element(leaf.dtype)) * (parts[0] if parts else 1)
    for start in range(0, array.size, step):
        yield array.flat[start : start + step].reshape(-1, *parts)
