"""Converts the bytes of leaves to values: Python scalars, arrays, and tensors through the tensor library."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import (
    TORCH_ONLY,
    ArrayLeaf,
    Constant,
    DictNode,
    Leaf,
    ListNode,
    ScalarLeaf,
    StateKey,
    StateNode,
    StridedLeaf,
    TiedLeaf,
    TupleNode,
    iter_parts,
    measure_element,
)
from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.model.tensor_library import load_torch
from stockroom.store.dtypes import parse_dtype

PIECE_NBYTES: Final = 4 << 20

Rows: TypeAlias = slice | list[int] | NDArray[Any] | None

_DICTS: Final[Mapping[str, type[dict[Any, Any]]]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How leaves become values: `rows` of axis 0 of each array, torch tensors as numpy arrays."""

    rows: Rows = None
    as_numpy: bool = False


@dataclass(slots=True)
class ValueMaker:
    """Makes the values of leaves that are read together, and restores the ties among them."""

    reader: LeafReader
    options: LoadOptions = LoadOptions()
    _raw: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict)
    _bases: dict[str, Any] = field(default_factory=dict)

    def read(self, paths: Iterable[str]) -> None:
        """Read the bytes that the leaves at `paths` need, all at once."""
        structure = self.reader.structure
        whole = (path for path in paths if not self._is_read_by_rows(structure.leaves[structure.origin(path)]))
        self._raw.update(self.reader.read([path for path in structure.list_stored(whole) if path not in self._raw]))

    def make(self, path: str, leaf: Leaf) -> Any:
        """Return the value of one leaf that was read."""
        if isinstance(leaf, TiedLeaf):
            origin = self.reader.structure.leaves[leaf.path]
            if leaf.path not in self._made:
                self.make(leaf.path, origin)
            return self._alias(origin, self._made[leaf.path])
        if isinstance(leaf, ScalarLeaf):
            return decode_scalar(leaf.kind, self._raw[path].tobytes())
        made = self._made.get(path)
        if made is None:  # a leaf tied to it may have made it already
            made = self._made[path] = (
                self._make_strided(leaf) if isinstance(leaf, StridedLeaf) else self._make(path, leaf)
            )
        return made

    def _is_read_by_rows(self, leaf: Leaf) -> bool:
        """Return whether to read only the chunks that hold the selected rows of a leaf."""
        return isinstance(leaf, ArrayLeaf) and self._has_rows(leaf)

    def _has_rows(self, leaf: ArrayLeaf | StridedLeaf) -> bool:
        """Return whether only some rows of a leaf are selected."""
        return self.options.rows is not None and len(leaf.shape) > 0

    def _make(self, path: str, leaf: ArrayLeaf) -> Any:
        if not self._is_read_by_rows(leaf):
            return self._shape(self._raw[path], leaf, leaf.shape)
        rows = choose_rows(self.options.rows, leaf.shape[0], path)
        row_nbytes = measure_element(leaf.dtype) * math.prod(leaf.shape[1:])
        return self._shape(self.reader.read_rows(path, rows, row_nbytes), leaf, (len(rows), *leaf.shape[1:]))

    def _shape(self, raw: NDArray[np.uint8], leaf: ArrayLeaf, shape: tuple[int, ...]) -> Any:
        if leaf.library == "torch" and not self.options.as_numpy:
            return load_torch().make(raw, leaf.dtype, shape)
        array = as_array(raw, leaf.dtype, shape)
        return array[()] if leaf.library == "scalar" else array

    def _make_strided(self, leaf: StridedLeaf) -> Any:
        if self.options.as_numpy:
            array = _as_strided_array(self._raw[leaf.base], leaf)
            return array[self._choose(leaf)] if self._has_rows(leaf) else array
        base = self._bases.get(leaf.base)
        if base is None:
            base = self._bases[leaf.base] = load_torch().make(self._raw[leaf.base], leaf.dtype, (leaf.length,))
        tensor = load_torch().make_strided(base, leaf.shape, leaf.strides, leaf.offset)
        return load_torch().take_rows(tensor, self._choose(leaf)) if self._has_rows(leaf) else tensor

    def _choose(self, leaf: StridedLeaf) -> NDArray[np.int64]:
        return choose_rows(self.options.rows, leaf.shape[0], leaf.base)

    def _alias(self, leaf: Leaf, made: Any) -> Any:
        is_numpy = self.options.as_numpy or (isinstance(leaf, ArrayLeaf) and leaf.library == "numpy")
        return made[...] if is_numpy else load_torch().alias(made)


def iter_pieces(reader: LeafReader, path: str, *, nbytes: int = PIECE_NBYTES) -> Iterator[NDArray[Any]]:
    """Yield the values of a leaf, flat and in C order, in arrays of about `nbytes`; an empty leaf may yield none.

    If numpy lacks the dtype, the arrays have a last axis for the parts of an element. A tensor that shares its memory,
    or repeats its own elements, reads all that memory at once, mapped if possible.
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


def as_array(raw: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array on the memory of `raw`; with a last axis for the parts of an element if numpy lacks the dtype."""
    known = TORCH_ONLY.get(dtype)
    if known is None:
        return raw.view(parse_dtype(dtype)).reshape(shape)
    stored = parse_dtype(known[0])
    parts = known[1] // stored.itemsize
    return raw.view(stored).reshape((*shape, parts) if parts > 1 else shape)


def _as_strided_array(raw: NDArray[np.uint8], leaf: StridedLeaf) -> NDArray[Any]:
    """Return `as_array` of a strided leaf whose base is `raw`."""
    whole = as_array(raw, leaf.dtype, (leaf.length,))
    steps = [stride * whole.strides[0] for stride in leaf.strides]
    return np.ndarray(
        (*leaf.shape, *whole.shape[1:]),
        whole.dtype,
        buffer=raw,
        offset=leaf.offset * whole.strides[0],
        strides=(*steps, *whole.strides[1:]),
    )


def choose_rows(rows: Rows, count: int, path: str) -> NDArray[np.int64]:
    """Return the rows of an axis of length `count` that slice, positions or mask select; raises `InvalidInputError`."""
    try:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(count), dtype=np.int64)
        return _choose_positions(np.atleast_1d(np.asarray(rows)), count)
    except (IndexError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"rows: expected a slice, positions below {count} or a mask for {path!r}, found {rows!r} ({error})"
        ) from error


def _choose_positions(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    if rows.ndim != 1:
        raise IndexError("more than one axis")
    if rows.dtype == bool:
        if len(rows) != count:
            raise IndexError(f"the mask has length {len(rows)}")
        return np.flatnonzero(rows)
    if len(rows) and rows.dtype.kind not in "iu":
        raise TypeError(f"dtype {rows.dtype}")
    positions = rows.astype(np.int64)
    if ((rows < -count) | (rows >= count)).any():
        raise IndexError("out of range")
    return np.where(positions < 0, positions + count, positions)


def decode_scalar(kind: str, data: bytes) -> Any:
    """Return the Python scalar that `flatten.encode_scalar` encoded; raises `CorruptionError` for other bytes."""
    if kind == "bytes":
        return data
    try:
        return _SCALARS[kind](data)
    except ValueError as error:
        raise CorruptionError(f"{len(data)} bytes do not encode a valid {kind} ({error}); run `stock fsck`") from error


def _decode_bool(data: bytes) -> bool:
    if data not in (b"\0", b"\1"):
        raise ValueError("expected 0 or 1")
    return data == b"\1"


def _decode_int(data: bytes) -> int:
    number = int.from_bytes(data, "little", signed=True)
    if len(data) != (number.bit_length() + 8) // 8:
        raise ValueError("not the shortest form")
    return number


_SCALARS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "bool": _decode_bool,
    "int": _decode_int,
    "float": lambda data: float(np.frombuffer(data, "<f8", 1)[0]),
    "complex": lambda data: complex(np.frombuffer(data, "<c16", 1)[0]),
    "str": lambda data: data.decode("utf-8", "surrogatepass"),
}


def assemble(node: StateNode, path: str, make: Callable[[str, StateNode], Any], wanted: set[str] | None = None) -> Any:
    """Return a node as Python containers; `make` returns the values of leaves, which are used unchanged.

    With `wanted`, only the nodes at these paths are in it; they must include the containers around them.
    """
    if not isinstance(node, DictNode | ListNode | TupleNode):
        return node.value if isinstance(node, Constant) else make(path, node)
    parts = {
        key: assemble(part, at, make, wanted)
        for key, at, part in iter_parts(node, path)
        if wanted is None or at in wanted
    }
    return _fill(node, parts)


def make_metadata(node: DictNode) -> Any:
    """Return a state dict's own `_metadata`, or None."""
    return None if node.metadata is None else assemble(node.metadata, "", lambda _, leaf: leaf)


def _fill(node: DictNode | ListNode | TupleNode, parts: dict[StateKey, Any]) -> Any:
    if isinstance(node, ListNode):
        return list(parts.values())
    if isinstance(node, TupleNode):
        return tuple(parts.values())
    made = _DICTS[node.kind](parts)
    metadata = make_metadata(node)
    if metadata is not None and isinstance(made, OrderedDict):
        made._metadata = metadata  # type: ignore[attr-defined]
    return made
