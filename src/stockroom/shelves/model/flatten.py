"""Splits a nested state into its structure and the bytes of its leaves.

Copies only scalars. Tensors that share memory are recognized: the same view twice becomes a tied leaf, and overlapping
views become strided leaves over one stored base.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import (
    MAX_AXES,
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
    encode_key,
    encode_text,
    join_path,
    measure_extent,
)
from stockroom.content.structure import MAX_DEPTH, MAX_EXTENT
from stockroom.errors import SchemaError
from stockroom.shelves.model.state import State
from stockroom.shelves.model.tensor_library import RawTensor, TensorInfo, is_tensor, load_torch
from stockroom.store.dtypes import format_dtype
from stockroom.trees.str_keys import MAX_KEY_NBYTES

_PIECE_NBYTES: Final = 4 << 20
_MAX_INT_KEY: Final = 1 << 63
_DICT_KINDS: Final[dict[type, Literal["OrderedDict", "Counter"]]] = {OrderedDict: "OrderedDict", Counter: "Counter"}


@dataclass(frozen=True, slots=True)
class LeafBytes:
    """The bytes of one stored leaf: `pieces` are flat uint8 arrays, in order.

    `shape` and `dtype`, a dtype that columns have, decide how the bytes are cut into chunks.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    pieces: Iterable[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class FlatState:
    """A structure and the bytes of its leaves, in order."""

    structure: StateNode
    leaves: list[LeafBytes]


def flatten(state: object, *, where: str) -> FlatState:
    """Return `state` split into structure and leaves; raises `SchemaError` naming `where` and the bad value's path."""
    flat = _Flattener(where)
    top = flat.take(state, "", 0)
    flat.choose_tensor_leaves()
    return FlatState(_freeze(top), [slot.content for slot in flat.slots if slot.content is not None])


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of a leaf in the state; its kind may be decided later."""

    path: str
    leaf: Leaf | Constant | None = None
    content: LeafBytes | None = None


@dataclass(slots=True, eq=False)
class _Group:
    """A container whose parts are split already."""

    kind: str
    keys: list[StateKey]
    parts: list[_Slot | _Group]
    metadata: _Slot | _Group | None = None


@dataclass(slots=True, eq=False)
class _Tensor:
    """A tensor in the state, and its slot."""

    slot: _Slot
    value: Any
    info: TensorInfo

    @property
    def view(self) -> tuple[object, ...]:
        return (self.info.dtype, self.info.shape, self.info.strides, self.info.offset)

    @property
    def end(self) -> int:
        return self.info.offset + self.info.span


@dataclass(slots=True)
class _Flattener:
    where: str
    slots: list[_Slot] = field(default_factory=list)
    memories: dict[object, list[_Tensor]] = field(default_factory=lambda: defaultdict(list))
    arrays: dict[tuple[object, ...], tuple[_Slot, object]] = field(default_factory=dict)
    within: set[int] = field(default_factory=set)

    def take(self, value: Any, path: str, depth: int) -> _Slot | _Group:
        """Split one value, recursively."""
        if isinstance(value, State):
            value = value.load()  # restores its ties
        if isinstance(value, Mapping | list | tuple) and not hasattr(value, "_fields"):
            if depth >= MAX_DEPTH or id(value) in self.within:
                raise SchemaError(f"{self._at(path)}: nested deeper than {MAX_DEPTH} levels, or contains itself")
            self.within.add(id(value))
            group = self._take_mapping(value, path, depth) if isinstance(value, Mapping) else None
            if group is None:
                parts = [self.take(part, join_path(path, at), depth + 1) for at, part in enumerate(value)]
                group = _Group("list" if isinstance(value, list) else "tuple", [], parts)
            self.within.discard(id(value))
            return group
        slot = _Slot(path)
        if len(path) * 4 > MAX_KEY_NBYTES and len(path.encode("utf-8", "surrogatepass")) > MAX_KEY_NBYTES:
            raise SchemaError(f"{self._at(path[:40])}...: its path takes more than {MAX_KEY_NBYTES} bytes")
        self._take_leaf(value, slot)
        self.slots.append(slot)
        return slot

    def choose_tensor_leaves(self) -> None:
        """Decide the kinds of tensor leaves, now that all tensors sharing a memory are known."""
        for tensors in self.memories.values():
            unique: dict[tuple[object, ...], _Tensor] = {}
            for tensor in tensors:
                first = unique.setdefault(tensor.view, tensor)
                if first is not tensor:
                    tensor.slot.leaf = TiedLeaf(encode_text(first.slot.path))
            for together in _group_overlaps(list(unique.values())):
                self._store_together(together)

    def _take_mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> _Group:
        keys = [self._check_key(key, path) for key in value]
        parts = [
            self.take(part, join_path(path, key), depth + 1) for key, part in zip(keys, value.values(), strict=True)
        ]
        kind = next((name for base, name in _DICT_KINDS.items() if isinstance(value, base)), "dict")
        group = _Group(kind, keys, parts)
        metadata = getattr(value, "_metadata", None)
        if isinstance(metadata, Mapping):
            group.metadata = self._take_constants(metadata, f"{path}._metadata", depth + 1)
        return group

    def _take_constants(self, value: Any, path: str, depth: int) -> _Slot | _Group:
        """Split a state dict's `_metadata`, such as module versions: scalars that are kept in the structure."""
        if depth < MAX_DEPTH and isinstance(value, Mapping):
            keys = [self._check_key(key, path) for key in value]
            kind = "OrderedDict" if isinstance(value, OrderedDict) else "dict"
            return _Group(kind, keys, [self._take_constants(part, path, depth + 1) for part in value.values()])
        if depth < MAX_DEPTH and isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return _Group(kind, [], [self._take_constants(part, path, depth + 1) for part in value])
        if not _is_constant(value):
            raise SchemaError(f"{self._at(path)}: expected scalars, found {type(value).__name__}")
        return _Slot(path, Constant(value))

    def _take_leaf(self, value: Any, slot: _Slot) -> None:
        if is_tensor(value):
            self._take_tensor(value, slot)
        elif isinstance(value, np.ndarray):
            self._take_array(value, slot)
        elif isinstance(value, RawTensor):
            slot.leaf = ArrayLeaf("torch", value.dtype, value.shape)
            slot.content = LeafBytes(slot.path, value.dtype, value.shape, value.data.nbytes, (value.data,))
        elif value is None:
            slot.leaf = Constant(None)
        elif isinstance(value, np.generic) and not isinstance(value, str | bytes):
            slot.leaf = ArrayLeaf("scalar", self._name_dtype(value, slot.path), ())
            self._put_bytes(slot, np.asarray(value).astype(value.dtype.newbyteorder("<")).tobytes())
        else:
            found = encode_scalar(value)
            if found is None:
                raise SchemaError(
                    f"{self._at(slot.path)}: expected a tensor, an array, a number, str, bytes or None, found "
                    f"{type(value).__name__}"
                )
            slot.leaf = ScalarLeaf(found[0])
            self._put_bytes(slot, found[1])

    def _take_tensor(self, value: Any, slot: _Slot) -> None:
        info = load_torch().describe(value, where=self._at(slot.path))
        if len(info.shape) > MAX_AXES:
            raise SchemaError(f"{self._at(slot.path)}: expected at most {MAX_AXES} axes, found {len(info.shape)}")
        if measure_extent(info.dtype, info.shape) > MAX_EXTENT:
            raise SchemaError(f"{self._at(slot.path)}: a tensor of shape {info.shape} is too large to store")
        tensor = _Tensor(slot, value, info)
        if 0 in info.shape:
            self._store_alone(tensor)
        else:
            self.memories[(info.memory, info.dtype)].append(tensor)

    def _take_array(self, value: NDArray[Any], slot: _Slot) -> None:
        name = self._name_dtype(value, slot.path)
        view = (value.__array_interface__["data"][0], name, value.shape, value.strides, value.dtype.byteorder)
        tied = self.arrays.get(view) if value.size else None
        if tied is not None:
            slot.leaf = TiedLeaf(encode_text(tied[0].path))
            return
        self.arrays[view] = (slot, value)  # kept alive, so that no other array reuses its memory
        slot.leaf = ArrayLeaf("numpy", name, value.shape)
        slot.content = LeafBytes(slot.path, name, value.shape, value.nbytes, _ArrayPieces(value))

    def _store_together(self, tensors: Sequence[_Tensor]) -> None:
        """Store tensors that overlap as one base; a single tensor is stored alone unless it repeats its elements."""
        if len(tensors) == 1 and tensors[0].info.span >= math.prod(tensors[0].info.shape):
            self._store_alone(tensors[0])
            return
        start, stop = min(t.info.offset for t in tensors), max(t.end for t in tensors)
        first = tensors[0]
        origin = encode_text(first.slot.path)
        for tensor in tensors:
            info = tensor.info
            tensor.slot.leaf = StridedLeaf(
                info.dtype, info.shape, info.strides, info.offset - start, stop - start, origin
            )
        pieces = _TensorPieces(partial(load_torch().iter_memory, first.value, (start, stop)))
        first.slot.content = LeafBytes(
            first.slot.path, first.info.dtype, (stop - start,), (stop - start) * first.info.itemsize, pieces
        )

    def _store_alone(self, tensor: _Tensor) -> None:
        info = tensor.info
        tensor.slot.leaf = ArrayLeaf("torch", info.dtype, info.shape)
        pieces = _TensorPieces(partial(load_torch().iter_bytes, tensor.value))
        nbytes = info.itemsize * math.prod(info.shape)
        tensor.slot.content = LeafBytes(tensor.slot.path, info.dtype, info.shape, nbytes, pieces)

    def _put_bytes(self, slot: _Slot, data: bytes) -> None:
        slot.content = LeafBytes(slot.path, "uint8", (len(data),), len(data), (np.frombuffer(data, np.uint8),))

    def _check_key(self, key: object, path: str) -> StateKey:
        if isinstance(key, np.integer):
            key = int(key)
        if isinstance(key, str):
            return str.__str__(key)  # a plain str, also from a subclass
        if type(key) is int and -_MAX_INT_KEY <= key < _MAX_INT_KEY:
            return key
        raise SchemaError(f"{self._at(path)}: expected keys of int (64 bits) or str, found {key!r}")

    def _name_dtype(self, value: Any, path: str) -> str:
        if isinstance(value, np.ma.MaskedArray):
            raise SchemaError(f"{self._at(path)}: a masked array cannot be stored; store its data and its mask")
        try:
            return format_dtype(value.dtype)
        except SchemaError as error:
            raise SchemaError(f"{self._at(path)}: {error}") from error

    def _at(self, path: str) -> str:
        return f"{self.where}, at {path!r}" if path else self.where


@dataclass(frozen=True, slots=True)
class _TensorPieces:
    """A tensor's bytes, in pieces; can be iterated again."""

    iterate: partial[Iterator[NDArray[np.uint8]]]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self.iterate(_PIECE_NBYTES)


@dataclass(frozen=True, slots=True)
class _ArrayPieces:
    """An array's bytes, little-endian, in C order; a view if the array has this layout already."""

    array: NDArray[Any]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        array = np.atleast_1d(np.asarray(self.array))
        if not array.size:
            return
        if array.flags.c_contiguous and array.dtype.byteorder != ">":
            yield array.reshape(-1).view(np.uint8)
            return
        rows = max(1, _PIECE_NBYTES // (array.itemsize * math.prod(array.shape[1:])))
        for start in range(0, len(array), rows):
            little = np.ascontiguousarray(array[start : start + rows], array.dtype.newbyteorder("<"))
            yield little.reshape(-1).view(np.uint8)


_ScalarKind: TypeAlias = Literal["bool", "int", "float", "complex", "str", "bytes"]


def encode_scalar(value: object) -> tuple[_ScalarKind, bytes] | None:
    """Return the kind and bytes of a Python scalar; None for any other value."""
    if isinstance(value, bool):
        return "bool", b"\1" if value else b"\0"
    if isinstance(value, int):
        plain = int(value)
        return "int", plain.to_bytes((plain.bit_length() + 8) // 8, "little", signed=True)
    if isinstance(value, float):
        return "float", np.float64(value).tobytes()
    if isinstance(value, complex):
        return "complex", np.complex128(value).tobytes()
    if isinstance(value, str):
        return "str", str(value).encode("utf-8", "surrogatepass")
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes", bytes(value)
    return None


def _is_constant(value: object) -> bool:
    """Return whether a structure can hold a value itself: msgpack has no larger integers, and no lone surrogates."""
    if type(value) is int:
        return -_MAX_INT_KEY <= value < _MAX_INT_KEY
    if type(value) is str:
        return value.encode("utf-8", "replace").decode() == value
    return value is None or type(value) in (bool, float)


def _group_overlaps(tensors: list[_Tensor]) -> Iterator[list[_Tensor]]:
    """Yield groups of tensors that overlap in one memory, each in the order of the state."""
    together: list[_Tensor] = []
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.info.offset):
        if together and tensor.info.offset >= end:
            yield _in_order(together, tensors)
            together = []
        together.append(tensor)
        end = max(end, tensor.end)
    if together:
        yield _in_order(together, tensors)


def _in_order(some: Sequence[_Tensor], tensors: Sequence[_Tensor]) -> list[_Tensor]:
    chosen = {id(tensor) for tensor in some}
    return [tensor for tensor in tensors if id(tensor) in chosen]


def _freeze(part: _Slot | _Group) -> StateNode:
    if isinstance(part, _Slot):
        assert part.leaf is not None
        return part.leaf
    nodes = tuple(map(_freeze, part.parts))
    if part.kind == "list":
        return ListNode(nodes)
    if part.kind == "tuple":
        return TupleNode(nodes)
    metadata = None if part.metadata is None else _freeze(part.metadata)
    return DictNode(part.kind, tuple(map(encode_key, part.keys)), nodes, metadata)  # type: ignore[arg-type]
