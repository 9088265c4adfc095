"""Values as table cells: nested values are flattened under dotted names, values too large for a cell get an outline.

Reads no chunks, so that a table costs the same on a clone without packs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from stockroom.content.nodes import (
    TORCH_ONLY,
    ArrayLeaf,
    Constant,
    DictNode,
    ListNode,
    ScalarLeaf,
    StateNode,
    StridedLeaf,
    TupleNode,
    iter_parts,
    list_nodes,
    measure_leaf,
)
from stockroom.errors import MalformedRecordError
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.model.leaf_values import as_array, decode_scalar
from stockroom.store.entry import Entry, EntryKind

MAX_PARTS: Final = 500
"""A value with more parts becomes one cell."""

_CONTAINERS: Final = (DictNode, ListNode, TupleNode)


@dataclass(frozen=True, slots=True)
class Outline:
    """Shown instead of a value that is too large for a cell; equal for equal values."""

    text: str
    digest: str

    def __str__(self) -> str:
        return self.text


Cell: TypeAlias = Any
"""A Python or numpy scalar, str, None, a list or tuple of those, `{}`, or an `Outline`."""


def read_cells(reader: LeafReader, name: str, digest: bytes) -> dict[str, Cell]:
    """Return the cells of one value by dotted name; `digest` is the digest of its record."""
    structure = reader.structure
    count = sum(1 for node in structure.nodes.values() if not list_nodes(node))  # leaves, constants, empty containers
    if count > MAX_PARTS:
        return {name: Outline(f"{_name_container(structure.top)} of {count} parts", digest.hex())}
    maker = _CellMaker(reader, reader.get_entries(list(structure.stored)))
    return dict(maker.iter_cells(structure.top, "", name))


@dataclass(frozen=True, slots=True)
class _CellMaker:
    """Makes the cells of one value from the entries of its stored leaves."""

    reader: LeafReader
    entries: Mapping[str, Entry]

    def iter_cells(self, node: StateNode, path: str, name: str) -> Iterator[tuple[str, Cell]]:
        """Yield the cells of a node; `name` is the name of the whole node."""
        if isinstance(node, DictNode) or any(isinstance(part, _CONTAINERS) for part in list_nodes(node)):
            for key, at, part in iter_parts(node, path):
                yield from self.iter_cells(part, at, f"{name}.{key}")
            if not list_nodes(node):
                yield name, {}
        elif isinstance(node, ListNode | TupleNode):
            cells = [cell for _, at, part in iter_parts(node, path) for _, cell in self.iter_cells(part, at, name)]
            yield name, tuple(cells) if isinstance(node, TupleNode) else cells
        else:
            yield name, node.value if isinstance(node, Constant) else self._make(path)

    def _make(self, path: str) -> Cell:
        """Return the cell of one leaf."""
        structure = self.reader.structure
        leaf, entry = structure.leaves[structure.origin(path)], self.entries[structure.stored_path(path)]
        if measure_leaf(leaf) not in (None, entry.nbytes):
            raise MalformedRecordError(f"leaf {path!r}: its bytes do not fit its kind; run `stock fsck`")
        if isinstance(leaf, ScalarLeaf):
            if leaf.kind != "bytes" and entry.kind is EntryKind.INLINE:
                return decode_scalar(leaf.kind, entry.payload)
            kind = "" if leaf.kind == "bytes" else f"{leaf.kind} of "
            return self._outline(f"{kind}{entry.nbytes} bytes", entry)
        assert isinstance(leaf, ArrayLeaf | StridedLeaf)
        if isinstance(leaf, ArrayLeaf) and math.prod(leaf.shape) == 1 and leaf.dtype not in TORCH_ONLY:
            scalar = as_array(np.frombuffer(entry.payload, np.uint8), leaf.dtype, ())[()]
            return float(scalar) if scalar.dtype.kind == "V" else scalar  # bfloat16 and similar dtypes do not compare
        return self._outline(f"{leaf.dtype} {leaf.shape}", entry)

    def _outline(self, text: str, entry: Entry) -> Outline:
        return Outline(text, self.reader.digest_entries([entry])[0])


def format_cell(cell: Cell) -> str:
    """Return a cell on one line: floats with six digits, text unchanged."""
    if isinstance(cell, float | np.floating):
        return f"{float(cell):.6g}"
    if isinstance(cell, list | tuple):
        inner = ", ".join(map(format_cell, cell))
        return f"[{inner}]" if isinstance(cell, list) else f"({inner})"
    return str(cell)


def _name_container(node: StateNode) -> str:
    return "dict" if isinstance(node, DictNode) else "list" if isinstance(node, ListNode) else "tuple"
