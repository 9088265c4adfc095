"""What is known of leaves without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stockroom.content.structure import ArrayLeaf, Leaf, ScalarLeaf, StridedLeaf, TiedLeaf
from stockroom.shelves.model.leaf_reader import LeafReader


@dataclass(frozen=True, slots=True)
class LeafInfo:
    """What is known of a leaf without reading it.

    `dtype` is a numpy or torch dtype's name, or a Python type's; `digest` the hex BLAKE3 of its raw bytes; `tied_to`
    the path, from the top, of the leaf whose memory it shares; `library` is `torch`, `numpy`, `scalar` for numpy's
    scalars, or `python`.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str
    tied_to: str | None = None
    library: str = "python"


def iter_info(reader: LeafReader, forms: Mapping[str, Leaf], paths: Sequence[str]) -> Iterator[LeafInfo]:
    """What each leaf in `paths` is, in their order; `forms` are those of all leaves of the state."""
    entries = reader.find_entries(list_stored(forms, paths))
    digests = dict(zip(entries, reader.digest_entries(entries.values()), strict=True))
    for path in paths:
        at, leaf = find_origin(forms, path)
        stored = leaf.base if isinstance(leaf, StridedLeaf) else at
        tied_to = next((other for other in (at, stored) if other != path), None)
        yield LeafInfo(path, *_describe(leaf), entries[stored].nbytes, digests[stored], tied_to, _name_library(leaf))


def list_stored(forms: Mapping[str, Leaf], paths: Iterable[str]) -> list[str]:
    """The paths under which the bytes of leaves are stored, each once."""
    origins = (find_origin(forms, path) for path in paths)
    return list(dict.fromkeys(leaf.base if isinstance(leaf, StridedLeaf) else at for at, leaf in origins))


def find_origin(forms: Mapping[str, Leaf], path: str) -> tuple[str, Leaf]:
    """The path and form of the leaf that the one at `path` is tied to, or of itself."""
    leaf = forms[path]
    while isinstance(leaf, TiedLeaf):
        path, leaf = leaf.path, forms[leaf.path]
    return path, leaf


def _describe(leaf: Leaf) -> tuple[str, tuple[int, ...]]:
    """The name of a leaf's type, and its shape."""
    if isinstance(leaf, ArrayLeaf | StridedLeaf):
        return leaf.dtype, leaf.shape
    return (leaf.kind if isinstance(leaf, ScalarLeaf) else ""), ()


def _name_library(leaf: Leaf) -> str:
    if isinstance(leaf, ArrayLeaf):
        return leaf.library
    return "torch" if isinstance(leaf, StridedLeaf) else "python"
