"""The structure of a nested state: containers in order, and what each leaf is; but for `None`, no values.

A state is any nesting of dict, list and tuple. Its leaves' bytes lie elsewhere, under the leaf's path: the keys and
positions that lead to it, joined by `/`. In a str key `~` is written `~0` and `/` is written `~1`; one that is empty or
reads as an integer has `~2` in front, so that no two leaves of one state share a path.

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

Strides and offset count elements. Keys are msgpack int or str. A str key or path with lone surrogates, which msgpack
does not have, or that begins with U+0000, is written as U+0000 and the hex digits of its UTF-8 with surrogates let
through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from stockroom.errors import MalformedRecordError, SchemaError
from stockroom.refs.record import RecordFormat
from stockroom.store.dtypes import format_dtype, parse_dtype

MAX_DEPTH: Final = 100
MAX_AXES: Final = 64
MAX_EXTENT: Final = 1 << 60
"""What the bytes of one element times all lengths of a shape but 0 come to at most."""

_KEPT: Final = 16

StateKey: TypeAlias = int | str
Scalar: TypeAlias = bool | int | float | str | None
_Length = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
_Shape = Annotated[tuple[_Length, ...], msgspec.Meta(max_length=MAX_AXES)]

TORCH_ONLY: Final = {
    "complex32": ("float16", 4),
    "float4_e2m1fn_x2": ("uint8", 1),
    "bits1x8": ("uint8", 1),
    "bits2x4": ("uint8", 1),
    "bits4x2": ("uint8", 1),
    "bits8": ("uint8", 1),
    "bits16": ("uint16", 2),
} | {f"{sign}int{bits}": ("uint8", 1) for sign in ("", "u") for bits in range(1, 8)}
"""torch's dtypes that numpy cannot name: the dtype their bytes are stored as, and the bytes of one element."""


class DictNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """A mapping, in order."""

    kind: Literal["dict", "OrderedDict", "Counter"]
    keys: tuple[int | str, ...]
    nodes: tuple[Node, ...]
    metadata: Node | None


class ListNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """A list."""

    nodes: tuple[Node, ...]


class TupleNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="t"):
    """A tuple."""

    nodes: tuple[Node, ...]


class Constant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="c"):
    """A value that is part of the structure."""

    value: Scalar


class ScalarLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """A Python scalar, text or bytes."""

    kind: Literal["bool", "int", "float", "complex", "str", "bytes"]


class ArrayLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="a"):
    """An array, a numpy scalar or a tensor; its bytes are in C order."""

    library: Literal["numpy", "scalar", "torch"]
    dtype: str
    shape: _Shape


class StridedLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="v"):
    """A torch tensor that shares memory with others, or repeats its own."""

    dtype: str
    shape: _Shape
    strides: _Shape
    offset: _Length
    length: _Length
    origin: str

    @property
    def base(self) -> str:
        """The path that the memory is kept under."""
        return decode_text(self.origin)


class TiedLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="="):
    """The same memory, dtype and shape as another leaf."""

    origin: str

    @property
    def path(self) -> str:
        """The path of that leaf."""
        return decode_text(self.origin)


Leaf: TypeAlias = ScalarLeaf | ArrayLeaf | StridedLeaf | TiedLeaf
Node: TypeAlias = DictNode | ListNode | TupleNode | Constant | Leaf


class _Top(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    node: Node


_FORMAT: Final = RecordFormat(_Top, magic=b"SRsu", version=1, name="structure", max_nbytes=48 << 20)
_LOOKS_INT: Final = re.compile(r"-?[0-9]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encode_structure(node: Node) -> bytes:
    """The canonical bytes of the object."""
    return _FORMAT.encode(_Top(node))


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A decoded structure: its top node, and every leaf by path, in order."""

    top: Node
    leaves: Mapping[str, Leaf]
    _indexes: dict[str, dict[StateKey, int]] = field(default_factory=dict)

    def index(self, node: Node, path: str) -> dict[StateKey, int]:
        """Where each key stands in the container at `path`, which is `node`; made once."""
        found = self._indexes.get(path)
        if found is None:
            found = self._indexes[path] = {key: position for position, key in enumerate(list_keys(node))}
        return found


@lru_cache(maxsize=_KEPT)
def decode_structure(data: bytes, *, where: str) -> Structure:
    """The structure in `data`; `MalformedRecordError` naming `where` if it is none. Those last used are kept."""
    node = _FORMAT.decode(data, where=where).node
    return Structure(node, check_structure(node, where=where))


def check_structure(node: Node, *, where: str) -> dict[str, Leaf]:
    """The leaves of a decoded structure; `MalformedRecordError` naming `where` unless they make sense together."""
    leaves: dict[str, Leaf] = {}
    try:
        _check_containers(node)
        for path, leaf in iter_leaves(node):
            _check_leaf(path, leaf, leaves)
            leaves[path] = leaf
    except (ValueError, SchemaError) as error:
        raise MalformedRecordError(f"{where}: malformed structure ({error}); run `stock fsck`", where=where) from error
    return leaves


def _check_containers(node: Node, depth: int = 0, *, is_note: bool = False) -> None:
    """Raise `ValueError` unless containers are whole and values stand where they may: `is_note` in `_metadata`."""
    if isinstance(node, Constant):
        if not is_note and node.value is not None:
            raise ValueError("a value that is kept apart stands in the structure")
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
        raise ValueError("a leaf among the notes of a state dict")


def _check_keys(node: DictNode) -> None:
    if len(node.keys) != len(node.nodes):
        raise ValueError("as many keys as nodes are needed")
    if len(set(node.keys)) != len(node.keys):
        raise ValueError("a key stands twice")
    for key in node.keys:
        if isinstance(key, str):
            _check_text(key)
        elif not -(1 << 63) <= key < 1 << 63:
            raise ValueError(f"key {key} does not fit 64 bits")


def _check_text(text: str) -> None:
    if text.startswith("\0") and encode_text(decode_text(text)) != text:
        raise ValueError(f"{text!r} is not how a text is written here")


def _check_leaf(path: str, leaf: Leaf, before: Mapping[str, Leaf]) -> None:
    if isinstance(leaf, TiedLeaf):
        _check_text(leaf.origin)
        if not isinstance(before.get(leaf.path), ArrayLeaf | StridedLeaf):
            raise ValueError(f"tied to {leaf.path!r}, which is no array before it")
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
        raise ValueError("as many strides as axes are needed")
    reach = sum((n - 1) * stride for n, stride in zip(leaf.shape, leaf.strides, strict=True))
    if 0 in leaf.shape or leaf.offset + reach >= leaf.length or measure_extent(leaf.dtype, leaf.shape) > MAX_EXTENT:
        raise ValueError("a tensor reaches beyond its memory")
    first = leaf if leaf.base == path else before.get(leaf.base)
    if not isinstance(first, StridedLeaf) or first.origin != leaf.origin:
        raise ValueError(f"the memory under {leaf.base!r} is no other tensor's before it")
    if (first.dtype, first.length) != (leaf.dtype, leaf.length):
        raise ValueError(f"tensors over {leaf.base!r} disagree about it")


@cache
def _check_dtype(dtype: str) -> None:
    if dtype not in TORCH_ONLY and format_dtype(parse_dtype(dtype)) != dtype:
        raise ValueError(f"{dtype!r} is not the name of a dtype")


def list_nodes(node: Node) -> tuple[Node, ...]:
    """What a container holds, in order; nothing for a leaf."""
    return node.nodes if isinstance(node, DictNode | ListNode | TupleNode) else ()


def list_keys(node: Node) -> list[StateKey]:
    """The keys of a dict, or the positions of a list or tuple."""
    if isinstance(node, DictNode):
        return [key if isinstance(key, int) else decode_text(key) for key in node.keys]
    return list(range(len(list_nodes(node))))


def encode_key(key: StateKey) -> StateKey:
    """A key as a structure holds it."""
    return encode_text(key) if isinstance(key, str) else key


def encode_text(text: str) -> str:
    """A str key or a path as a structure holds it."""
    if not (text.startswith("\0") or _SURROGATE.search(text)):
        return text
    return "\0" + text.encode("utf-8", "surrogatepass").hex()


def decode_text(text: str) -> str:
    """The key or path that `encode_text` encoded."""
    return bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass") if text.startswith("\0") else text


def iter_leaves(node: Node, path: str = "", depth: int = 0) -> Iterator[tuple[str, Leaf]]:
    """Every leaf with its path, in order."""
    if isinstance(node, ScalarLeaf | ArrayLeaf | StridedLeaf | TiedLeaf):
        yield path, node
    elif not isinstance(node, Constant):
        prefix = f"{path}/" if depth else ""
        for key, child in zip(list_keys(node), list_nodes(node), strict=True):
            yield from iter_leaves(child, prefix + format_component(key), depth + 1)


def format_component(key: StateKey) -> str:
    """A key or position as one part of a path."""
    if isinstance(key, int):
        return str(key)
    escaped = key.replace("~", "~0").replace("/", "~1")
    return f"~2{escaped}" if not key or _LOOKS_INT.fullmatch(key) else escaped


def parse_component(component: str) -> str:
    """The key or position that one part of a path stands for, as text."""
    return component.removeprefix("~2").replace("~1", "/").replace("~0", "~")


def join_path(path: str, key: StateKey) -> str:
    """The path of what is under `key` in the container at `path`; the top one's is empty."""
    return f"{path}/{format_component(key)}" if path else format_component(key)


def measure_element(dtype: str) -> int:
    """Bytes of one element; `SchemaError` for a dtype that is not known."""
    known = TORCH_ONLY.get(dtype)
    return parse_dtype(dtype).itemsize if known is None else known[1]


def measure_extent(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes of an array, as if no axis were empty."""
    return measure_element(dtype) * math.prod(max(length, 1) for length in shape)


def name_storage(dtype: str) -> str:
    """The dtype, among those columns have, that a leaf's bytes are stored as."""
    known = TORCH_ONLY.get(dtype)
    return dtype if known is None else known[0]


def measure_leaf(leaf: Leaf) -> int | None:
    """Bytes that a leaf keeps; None where they have any number, as for text. A tied leaf keeps none of its own."""
    if isinstance(leaf, ArrayLeaf):
        return measure_element(leaf.dtype) * math.prod(leaf.shape)
    if isinstance(leaf, StridedLeaf):
        return measure_element(leaf.dtype) * leaf.length
    if isinstance(leaf, TiedLeaf):
        return 0
    return {"bool": 1, "float": 8, "complex": 16}.get(leaf.kind)


def iter_stored(node: Node) -> Iterator[tuple[str, Leaf]]:
    """The leaves that have bytes of their own, each with the path they are kept under, in order."""
    bases = set()
    for path, leaf in iter_leaves(node):
        if isinstance(leaf, StridedLeaf):
            if leaf.base in bases:
                continue
            bases.add(leaf.base)
            yield leaf.base, leaf
        elif not isinstance(leaf, TiedLeaf):
            yield path, leaf
