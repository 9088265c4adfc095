"""The structure of a state: its containers in order and a description of each leaf, with no values except `None`.

A state is any nesting of dict, list and tuple. The bytes of its leaves are stored elsewhere, under the path of each
leaf: the keys and positions above it, joined by `/`. In a str key `~` is written `~0` and `/` is written `~1`. A key
that is empty or reads as an integer gets the prefix `~2`, so no two leaves of one state share a path.

As a metadata object a structure is magic `SRsu`, version 1, then its top node as msgpack. A node is an array that
begins with its tag:

| tag | then | node |
|---|---|---|
| `d` | kind, keys, nodes, metadata | dict, OrderedDict or Counter; `metadata` is a state dict's `_metadata`, or nil |
| `l` | nodes | list |
| `t` | nodes | tuple |
| `c` | value | a value kept here: nil, or, within `_metadata`, any scalar |
| `s` | kind | bool, int, float, complex, str or bytes |
| `a` | library, dtype, shape | numpy array, numpy scalar, or dense torch tensor in C order |
| `v` | dtype, shape, strides, offset, length, base | torch tensor over `length` elements kept under `base` |
| `=` | path | the same memory as the leaf at `path` |

Strides and offset count elements. Keys are msgpack int or str. msgpack has no lone surrogates, so a str key or path
that has them, or that begins with U+0000, is written as U+0000 and the hex digits of its UTF-8 with surrogates let
through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Final

import msgspec

from stockroom.content.nodes import (
    TORCH_ONLY,
    ArrayLeaf,
    Constant,
    DictNode,
    Leaf,
    ListNode,
    StateNode,
    StridedLeaf,
    TiedLeaf,
    TupleNode,
    decode_text,
    encode_text,
    iter_parts,
    measure_extent,
)
from stockroom.errors import MalformedRecordError, SchemaError
from stockroom.refs.record import RecordFormat
from stockroom.store.dtypes import format_dtype, parse_dtype

MAX_DEPTH: Final = 100
MAX_EXTENT: Final = 1 << 60
"""The limit on the bytes of one element times all lengths of a shape, with 0 counted as 1."""

_KEPT: Final = 16
_SEQUENCES: Final = (ListNode, TupleNode)
_CONTAINERS: Final = (DictNode, *_SEQUENCES)


class Structure:
    """The nodes of a structure by path: the keys and positions above each, joined by `/`. The top path is empty.

    Attributes:
        nodes: all nodes, in order.
        leaves: all leaves, in order.
        stored: the leaves that have bytes of their own, in order, by the path those are stored under.
    """

    def __init__(self, top: StateNode) -> None:
        """List the nodes under `top`, whose depth must be bounded."""
        self.top = top
        self.nodes: Mapping[str, StateNode] = {"": top, **dict(_walk(top, ""))}
        self.leaves: Mapping[str, Leaf] = {path: node for path, node in self.nodes.items() if isinstance(node, Leaf)}
        stored: dict[str, Leaf] = {}
        for path, leaf in self.leaves.items():
            if not isinstance(leaf, TiedLeaf):
                stored.setdefault(leaf.base if isinstance(leaf, StridedLeaf) else path, leaf)
        self.stored: Mapping[str, Leaf] = stored

    def walk(self, at: str = "") -> Iterator[tuple[str, StateNode]]:
        """Yield the path and node of everything within the container at `at`, at any depth, in order."""
        return _walk(self.nodes[at], at)

    def list_leaves(self, at: str = "", *, into_dicts: bool = True) -> list[str]:
        """Return the path of the leaf at `at`, or the paths of the leaves within it, in order."""
        if at in self.leaves:
            return [at]
        if not at and into_dicts:
            return list(self.leaves)
        walk = _walk(self.nodes[at], at, _CONTAINERS if into_dicts else _SEQUENCES)
        return [path for path, node in walk if isinstance(node, Leaf)]

    def origin(self, path: str) -> str:
        """Return the path of the leaf that the one at `path` is tied to, or `path` itself."""
        while isinstance(leaf := self.leaves[path], TiedLeaf):
            path = leaf.path
        return path

    def stored_path(self, path: str) -> str:
        """Return the path that the bytes of the leaf at `path` are stored under."""
        origin = self.origin(path)
        leaf = self.leaves[origin]
        return leaf.base if isinstance(leaf, StridedLeaf) else origin

    def list_stored(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that the bytes of these leaves are stored under, without duplicates."""
        return list(dict.fromkeys(map(self.stored_path, paths)))


class _Top(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    node: StateNode


_FORMAT: Final = RecordFormat(_Top, magic=b"SRsu", version=1, name="structure", max_nbytes=48 << 20)


def encode_structure(node: StateNode) -> bytes:
    """Return the canonical bytes of the object."""
    return _FORMAT.encode(_Top(node))


@lru_cache(maxsize=_KEPT)
def decode_structure(data: bytes, *, where: str) -> Structure:
    """Return the structure in `data`; cached. Raises `MalformedRecordError` naming `where` if `data` is invalid."""
    return check_structure(_FORMAT.decode(data, where=where).node, where=where)


def check_structure(top: StateNode, *, where: str) -> Structure:
    """Return the structure under a decoded node. Raises `MalformedRecordError` naming `where` if it is inconsistent."""
    before: dict[str, Leaf] = {}
    try:
        _check_containers(top)  # first, as it bounds the depth
        structure = Structure(top)
        for path, leaf in structure.leaves.items():
            _check_leaf(path, leaf, before)
            before[path] = leaf
    except (ValueError, SchemaError) as error:
        raise MalformedRecordError(f"{where}: malformed structure ({error}); run `stock fsck`", where=where) from error
    return structure


def _walk(
    node: StateNode, path: str, into: tuple[type[StateNode], ...] = _CONTAINERS
) -> Iterator[tuple[str, StateNode]]:
    if isinstance(node, into):
        for _, at, part in iter_parts(node, path):
            yield at, part
            if isinstance(part, into):  # avoids a call for each of many leaves
                yield from _walk(part, at, into)


def _check_containers(node: StateNode, depth: int = 0, *, is_note: bool = False) -> None:
    """Raise `ValueError` if a container is malformed or a node is misplaced; `is_note` is within `_metadata`."""
    if isinstance(node, Constant):
        if not is_note and node.value is not None:
            raise ValueError("the structure holds a constant other than None")
    elif isinstance(node, DictNode | ListNode | TupleNode):
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, DictNode):
            _check_keys(node)
            if node.metadata is not None:
                _check_containers(node.metadata, depth + 1, is_note=True)
        for part in node.nodes:
            _check_containers(part, depth + 1, is_note=is_note)
    elif is_note:
        raise ValueError("the metadata of a state dict holds a leaf")


def _check_keys(node: DictNode) -> None:
    if len(node.keys) != len(node.nodes):
        raise ValueError(f"a dict has {len(node.keys)} keys and {len(node.nodes)} nodes")
    if len(set(node.keys)) != len(node.keys):
        raise ValueError("a dict has a duplicate key")
    for key in node.keys:
        if isinstance(key, str):
            _check_text(key)
        elif not -(1 << 63) <= key < 1 << 63:
            raise ValueError(f"key {key} does not fit 64 bits")


def _check_text(text: str) -> None:
    if text.startswith("\0") and encode_text(decode_text(text)) != text:
        raise ValueError(f"the text {text!r} is not in canonical form")


def _check_leaf(path: str, leaf: Leaf, before: Mapping[str, Leaf]) -> None:
    if isinstance(leaf, TiedLeaf):
        _check_text(leaf.origin)
        if not isinstance(before.get(leaf.path), ArrayLeaf | StridedLeaf):
            raise ValueError(f"tied to {leaf.path!r}, which is not an earlier array")
    elif isinstance(leaf, ArrayLeaf):
        _check_dtype(leaf.dtype)
        if leaf.library != "torch" and leaf.dtype in TORCH_ONLY:
            raise ValueError(f"numpy has no dtype {leaf.dtype}")
        if leaf.library == "scalar" and leaf.shape:
            raise ValueError("a scalar has axes")
        if measure_extent(leaf.dtype, leaf.shape) > MAX_EXTENT:
            raise ValueError(f"an array of shape {leaf.shape} is too large")
    elif isinstance(leaf, StridedLeaf):
        _check_strided(path, leaf, before)


def _check_strided(path: str, leaf: StridedLeaf, before: Mapping[str, Leaf]) -> None:
    _check_dtype(leaf.dtype)
    _check_text(leaf.origin)
    if len(leaf.strides) != len(leaf.shape):
        raise ValueError(f"a tensor has {len(leaf.strides)} strides and {len(leaf.shape)} axes")
    reach = sum((n - 1) * stride for n, stride in zip(leaf.shape, leaf.strides, strict=True))
    if 0 in leaf.shape or leaf.offset + reach >= leaf.length or measure_extent(leaf.dtype, leaf.shape) > MAX_EXTENT:
        raise ValueError("a tensor extends beyond its memory")
    first = leaf if leaf.base == path else before.get(leaf.base)
    if not isinstance(first, StridedLeaf) or first.origin != leaf.origin:
        raise ValueError(f"no earlier tensor has the memory of {leaf.base!r}")
    if (first.dtype, first.length) != (leaf.dtype, leaf.length):
        raise ValueError(f"tensors over {leaf.base!r} disagree on its dtype or length")


@cache
def _check_dtype(dtype: str) -> None:
    if dtype not in TORCH_ONLY and format_dtype(parse_dtype(dtype)) != dtype:
        raise ValueError(f"{dtype!r} is not a dtype name")
