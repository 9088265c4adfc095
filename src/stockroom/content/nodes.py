"""The nodes of a structure: containers, constants and leaves, and how their keys, paths and dtypes are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from stockroom.store.dtypes import parse_dtype

MAX_AXES: Final = 64

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
"""torch's dtypes that numpy cannot name: the dtype their bytes are stored as, and the bytes per element."""


class DictNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """A mapping, in order."""

    kind: Literal["dict", "OrderedDict", "Counter"]
    keys: tuple[int | str, ...]
    nodes: tuple[StateNode, ...]
    metadata: StateNode | None


class ListNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """A list."""

    nodes: tuple[StateNode, ...]


class TupleNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="t"):
    """A tuple."""

    nodes: tuple[StateNode, ...]


class Constant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="c"):
    """A value that is part of the structure."""

    value: Scalar


class ScalarLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """A Python scalar, text or bytes."""

    kind: Literal["bool", "int", "float", "complex", "str", "bytes"]


class ArrayLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="a"):
    """An array, a numpy scalar or a tensor, stored in C order."""

    library: Literal["numpy", "scalar", "torch"]
    dtype: str
    shape: _Shape


class StridedLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="v"):
    """A torch tensor that overlaps other tensors or repeats its own elements."""

    dtype: str
    shape: _Shape
    strides: _Shape
    offset: _Length
    length: _Length
    origin: str

    @property
    def base(self) -> str:
        """The path that the memory is stored under."""
        return decode_text(self.origin)


class TiedLeaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="="):
    """The same memory, dtype and shape as another leaf."""

    origin: str

    @property
    def path(self) -> str:
        """The path of that leaf."""
        return decode_text(self.origin)


Leaf: TypeAlias = ScalarLeaf | ArrayLeaf | StridedLeaf | TiedLeaf
StateNode: TypeAlias = DictNode | ListNode | TupleNode | Constant | Leaf


_LOOKS_INT: Final = re.compile(r"-?[0-9]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def list_nodes(node: StateNode) -> tuple[StateNode, ...]:
    """Return the nodes in a container, in order; a leaf has none."""
    return node.nodes if isinstance(node, DictNode | ListNode | TupleNode) else ()


def list_keys(node: StateNode) -> list[StateKey]:
    """Return the keys of a dict, or the positions of a list or tuple."""
    if isinstance(node, DictNode):
        return [key if isinstance(key, int) else decode_text(key) for key in node.keys]
    return list(range(len(list_nodes(node))))


def iter_parts(node: StateNode, path: str) -> Iterator[tuple[StateKey, str, StateNode]]:
    """Yield the key or position, the path and the node of each item of the container at `path`."""
    for key, part in zip(list_keys(node), list_nodes(node), strict=True):
        yield key, join_path(path, key), part


def encode_key(key: StateKey) -> StateKey:
    """Return a key as a structure holds it."""
    return encode_text(key) if isinstance(key, str) else key


def encode_text(text: str) -> str:
    """Return a str key or a path as a structure holds it."""
    if not (text.startswith("\0") or _SURROGATE.search(text)):
        return text
    return "\0" + text.encode("utf-8", "surrogatepass").hex()


def decode_text(text: str) -> str:
    """Return the key or path that `encode_text` encoded."""
    return bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass") if text.startswith("\0") else text


def format_component(key: StateKey) -> str:
    """Return a key or position as one part of a path."""
    if isinstance(key, int):
        return str(key)
    escaped = key.replace("~", "~0").replace("/", "~1")
    return f"~2{escaped}" if not key or _LOOKS_INT.fullmatch(key) else escaped


def parse_component(component: str) -> str:
    """Return the key or position that one part of a path names, as text."""
    return component.removeprefix("~2").replace("~1", "/").replace("~0", "~")


def join_path(path: str, key: StateKey) -> str:
    """Return the path of the item under `key` in the container at `path`; the top container's path is empty."""
    return f"{path}/{format_component(key)}" if path else format_component(key)


def measure_element(dtype: str) -> int:
    """Return the bytes of one element. Raises `SchemaError` if the dtype is unknown."""
    known = TORCH_ONLY.get(dtype)
    return parse_dtype(dtype).itemsize if known is None else known[1]


def measure_extent(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of an array, counting an empty axis as length 1."""
    return measure_element(dtype) * math.prod(max(length, 1) for length in shape)


def name_storage(dtype: str) -> str:
    """Return the dtype that a leaf's bytes are stored as, which is one that columns can have."""
    known = TORCH_ONLY.get(dtype)
    return dtype if known is None else known[0]


def measure_leaf(leaf: Leaf) -> int | None:
    """Return the bytes that a leaf stores, 0 if it is tied; None if the length varies, as for text."""
    if isinstance(leaf, ArrayLeaf):
        return measure_element(leaf.dtype) * math.prod(leaf.shape)
    if isinstance(leaf, StridedLeaf):
        return measure_element(leaf.dtype) * leaf.length
    if isinstance(leaf, TiedLeaf):
        return 0
    return {"bool": 1, "float": 8, "complex": 16}.get(leaf.kind)
