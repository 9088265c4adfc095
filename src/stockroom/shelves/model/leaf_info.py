"""Describes leaves without reading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockroom.content.nodes import ArrayLeaf, Leaf, ScalarLeaf, StridedLeaf
from stockroom.shelves.model.leaf_reader import LeafReader


@dataclass(frozen=True, slots=True)
class LeafInfo:
    """The description of a leaf; its data is not read.

    `dtype` is the name of a numpy or torch dtype or of a Python type, `digest` the hex BLAKE3-256 of the raw bytes, and
    `tied_to` the full path of the leaf whose memory this one shares. `library` is `torch`, `numpy`, `scalar` for
    numpy's scalars, or `python`.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str
    tied_to: str | None = None
    library: str = "python"


def iter_info(reader: LeafReader, paths: Sequence[str]) -> Iterator[LeafInfo]:
    """Yield the description of each leaf in `paths`, in order."""
    structure = reader.structure
    entries = reader.get_entries(structure.list_stored(paths))
    digests = dict(zip(entries, reader.digest_entries(entries.values()), strict=True))
    for path in paths:
        origin, stored = structure.origin(path), structure.stored_path(path)
        dtype, shape, library = _describe(structure.leaves[origin])
        tied_to = next((other for other in (origin, stored) if other != path), None)
        yield LeafInfo(path, dtype, shape, entries[stored].nbytes, digests[stored], tied_to, library)


def _describe(leaf: Leaf) -> tuple[str, tuple[int, ...], str]:
    """Return the name of a leaf's type, its shape, and its library."""
    if isinstance(leaf, ArrayLeaf | StridedLeaf):
        return leaf.dtype, leaf.shape, leaf.library if isinstance(leaf, ArrayLeaf) else "torch"
    return leaf.kind if isinstance(leaf, ScalarLeaf) else "", (), "python"
