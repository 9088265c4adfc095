"""Nested states for tests: strategies that make them, and a comparison bit for bit of which the product has no part.

A state is any nesting of dict, list and tuple with tensors, arrays and plain values in it.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from hypothesis import strategies as st

TORCH_DTYPES = sorted(
    {
        dtype
        for name in dir(torch)
        if isinstance(dtype := getattr(torch, name), torch.dtype) and not str(dtype).startswith(("torch.q", "torch.uq"))
    },
    key=str,
)
PRINTED_TORCH_DTYPES = [
    dtype for dtype in TORCH_DTYPES if not re.fullmatch(r"torch\.(bits.*|float4.*|u?int[1-7])", str(dtype))
]
"""Those that torch can print, as a failing example has to be."""

NUMPY_DTYPES = [
    *map(np.dtype, ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong")),
    *map(np.dtype, ("float16", "float32", "float64", "complex64", "complex128", "datetime64[ns]", "timedelta64[25s]")),
    *(
        np.dtype(getattr(ml_dtypes, name))
        for name in ("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
    ),
]

# -- making them

ANY_TEXT = st.characters(codec=None)  # lone surrogates too
ODD_KEYS = ["", "/", "~", "~2", "a/b", "~0", "~1", "0", "-1", "007", "\0", "\0\ud800", "\ud800", "*", "[a]", "a.b", " "]
INT_KEYS = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-2, 2)
KEYS = st.text(ANY_TEXT, max_size=12) | st.sampled_from(ODD_KEYS) | INT_KEYS
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 3000), 1 << 3000),
    st.floats(),
    st.integers(0, (1 << 64) - 1).map(lambda bits: struct.unpack("<d", bits.to_bytes(8, "little"))[0]),  # NaN payloads
    st.complex_numbers(),
    st.text(ANY_TEXT, max_size=60),
    st.binary(max_size=60),
    st.sampled_from([-0.0, "", b"", b"\0" * 33, "ä" * 40, True, 0, 1 << 63, -(1 << 63) - 1]),
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=5).map(tuple).filter(lambda shape: math.prod(shape) <= 120)


@st.composite
def raw_bytes(draw: st.DrawFn, nbytes: int, *, bits: bool = False) -> np.ndarray:
    """Any bytes, writable; with `bits` each 0 or 1, as booleans are."""
    some = draw(st.binary(min_size=min(nbytes, 24), max_size=min(nbytes, 24)))
    data = np.frombuffer((some * (nbytes // max(1, len(some)) + 1))[:nbytes], np.uint8).copy()
    return data & 1 if bits else data


@st.composite
def flat_tensors(draw: st.DrawFn, count: int) -> torch.Tensor:
    """A tensor of one axis of any dtype, on memory of its own."""
    dtype = draw(st.sampled_from(PRINTED_TORCH_DTYPES))
    if not count:
        return torch.empty(0, dtype=dtype)
    raw = draw(raw_bytes(count * dtype.itemsize, bits=dtype is torch.bool))
    return torch.from_numpy(raw).view(dtype)


@st.composite
def tensor_views(draw: st.DrawFn, base: torch.Tensor) -> torch.Tensor:
    """A tensor in the memory of `base`, which has one axis of 24 elements."""
    match draw(
        st.sampled_from(["whole", "shaped", "slice", "row", "steps", "turned", "spread", "windows", "conjugate"])
    ):
        case "shaped":
            return base.view(2, 3, 4)
        case "slice":
            start = draw(st.integers(0, 23))
            return base[start : draw(st.integers(start, 24))]
        case "row":
            return base.view(4, 6)[draw(st.integers(0, 3))]
        case "steps":
            return base[:: draw(st.integers(2, 5))]
        case "turned":
            return base.view(4, 6).T
        case "spread":
            return base[:3].expand(draw(st.integers(1, 4)), 3)
        case "windows":
            return base.as_strided((5, 4), (3, 1), draw(st.integers(0, 8)))
        case "conjugate" if base.dtype.is_complex:
            return torch.conj(base)
    return base


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """A tensor on memory of its own."""
    shape = draw(SHAPES)
    flat = draw(flat_tensors(math.prod(shape)))
    tensor = flat.reshape(shape) if flat.numel() else torch.empty(shape, dtype=flat.dtype)
    match draw(st.sampled_from(["plain", "parameter", "turned", "grad"])):
        case "parameter":
            return torch.nn.Parameter(tensor, requires_grad=tensor.dtype == torch.float32)
        case "turned" if tensor.ndim > 1:
            return tensor.transpose(0, -1)
        case "grad" if tensor.dtype == torch.float32:
            return tensor.requires_grad_()
    return tensor


@st.composite
def arrays(draw: st.DrawFn, dtype: np.dtype[Any] | None = None) -> np.ndarray:
    """An array of any bits, in any byte order and memory layout."""
    dtype = dtype or draw(st.sampled_from(NUMPY_DTYPES))
    shape = draw(SHAPES)
    array = draw(raw_bytes(math.prod(shape) * dtype.itemsize, bits=dtype.kind == "b")).view(dtype).reshape(shape)
    match draw(st.sampled_from(["C", "F", "big-endian", "backwards", "steps", "spread", "read-only"])):
        case "F":
            return np.asfortranarray(array).reshape(shape)
        case "big-endian" if dtype.kind in "iufcmM" and dtype.itemsize > 1:
            return array.astype(dtype.newbyteorder(">"))
        case "backwards" if array.ndim:
            return array[::-1]
        case "steps" if array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        case "spread":
            return np.broadcast_to(array, (2, *shape))
        case "read-only":
            array.flags.writeable = False
    return array


@st.composite
def numpy_scalars(draw: st.DrawFn) -> np.generic:
    """A numpy scalar of any dtype and bits."""
    dtype = draw(st.sampled_from(NUMPY_DTYPES))
    scalar: np.generic = draw(raw_bytes(dtype.itemsize, bits=dtype.kind == "b")).view(dtype)[0]
    return scalar


@st.composite
def states(draw: st.DrawFn, *, max_leaves: int = 12) -> Any:
    """A nested state, some of whose leaves lie in the same memory."""
    pool = [draw(flat_tensors(24)) for _ in range(draw(st.integers(0, 2)))]
    leaves: list[st.SearchStrategy[Any]] = [SCALARS, tensors(), arrays(), numpy_scalars()]
    for base in pool:
        leaves += [tensor_views(base)] * 2
    if draw(st.booleans()):
        leaves.append(st.just(draw(arrays())))
    return draw(
        st.recursive(
            st.one_of(leaves),
            lambda inner: st.one_of(
                st.dictionaries(KEYS, inner, max_size=4),
                st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
                st.lists(inner, max_size=3),
                st.lists(inner, max_size=3).map(tuple),
            ),
            max_leaves=max_leaves,
        )
    )


# -- comparing them


def bits(leaf: Any) -> tuple[object, ...]:
    """What makes two leaves the same: kind, dtype, shape and bytes."""
    if isinstance(leaf, torch.Tensor):
        return ("tensor", str(leaf.dtype), tuple(leaf.shape), tensor_bytes(leaf))
    if isinstance(leaf, np.ndarray | np.generic):
        native = leaf.dtype.newbyteorder("=")
        return ("array" if isinstance(leaf, np.ndarray) else "scalar", native.name, leaf.shape, array_bytes(leaf))
    if isinstance(leaf, float):
        return ("float", struct.pack("<d", leaf))
    if isinstance(leaf, complex):
        return ("complex", struct.pack("<dd", leaf.real, leaf.imag))
    return (type(leaf), leaf)


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's elements, in C order; gathered one by one where they are not in one piece."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if not plain.numel():
        return b""
    memory = torch.empty(0, dtype=torch.uint8).set_(plain.untyped_storage()).numpy()
    elements = memory[: len(memory) // plain.element_size() * plain.element_size()].view(f"V{plain.element_size()}")
    places = np.zeros((), np.int64) + plain.storage_offset()
    for length, stride in zip(plain.shape, plain.stride(), strict=True):
        places = places[..., None] + np.arange(length) * stride
    return elements[places.reshape(-1)].tobytes()


def array_bytes(array: np.ndarray | np.generic) -> bytes:
    """The bytes of an array's elements, in C order, little-endian."""
    return np.asarray(array).astype(array.dtype.newbyteorder("<"), order="C", copy=True).tobytes()


def container_type(value: object) -> type | None:
    """The type a container comes back as; None for a leaf."""
    for known in (OrderedDict, Counter):
        if isinstance(value, known):
            return known
    if isinstance(value, Mapping):
        return dict
    return next((known for known in (list, tuple) if isinstance(value, known)), None)


def list_parts(container: Any) -> list[tuple[Any, Any]]:
    """Keys or positions of a container, each with what is there."""
    return list(container.items()) if isinstance(container, Mapping) else list(enumerate(container))


def assert_same(found: Any, expected: Any, path: str = "") -> None:
    """The same containers, keys in the same order, and leaves of the same bits."""
    kind = container_type(expected)
    if kind is None:
        assert bits(found) == bits(expected), path
        return
    assert type(found) is kind, path
    assert [(type(key), key) for key, _ in list_parts(found)] == [(type(key), key) for key, _ in list_parts(expected)]
    for (key, inner), (_, expected_inner) in zip(list_parts(found), list_parts(expected), strict=True):
        assert_same(inner, expected_inner, f"{path}[{key!r}]")


def iter_leaves(state: Any) -> Iterator[Any]:
    """The leaves of a nested state, in order."""
    if container_type(state) is None:
        yield state
    else:
        for _, part in list_parts(state):
            yield from iter_leaves(part)


def map_leaves(state: Any, change: Callable[[Any], Any]) -> Any:
    """A state whose leaves are those of `state`, changed."""
    kind = container_type(state)
    if kind is None:
        return change(state)
    if issubclass(kind, dict):
        return kind((key, map_leaves(part, change)) for key, part in list_parts(state))
    return kind(map_leaves(part, change) for part in state)


# -- what lies in the same memory


class Extent(NamedTuple):
    """Where a leaf lies: in which `memory`, and from its first byte to behind its last."""

    memory: tuple[object, ...]
    start: int
    stop: int


def find_extent(leaf: Any) -> Extent | None:
    """Where a tensor that has elements lies; None for anything else."""
    if not isinstance(leaf, torch.Tensor) or not leaf.numel():
        return None
    span = 1 + sum((length - 1) * stride for length, stride in zip(leaf.shape, leaf.stride(), strict=True))
    storage = leaf.untyped_storage().data_ptr()
    start = storage + leaf.storage_offset() * leaf.element_size()
    memory = (storage, str(leaf.dtype), leaf.is_conj(), leaf.is_neg())
    return Extent(memory, start, start + span * leaf.element_size())


def assert_tied_as(found: Any, expected: Any) -> None:
    """What overlaps in memory in `expected` lies in `found` just as far apart; nothing else overlaps there."""
    extents = [find_extent(leaf) for leaf in iter_leaves(found)]
    originals = [find_extent(leaf) for leaf in iter_leaves(expected)]
    assert len(extents) == len(originals)
    groups = _group_overlaps(originals)
    for i, mine in enumerate(extents):
        for j, other in enumerate(extents[:i]):
            if mine is None or other is None:
                continue
            if groups[i] == groups[j]:
                before, after = originals[i], originals[j]
                assert before is not None
                assert after is not None
                assert mine.start - other.start == before.start - after.start
            else:
                assert mine.stop <= other.start or other.stop <= mine.start


def _group_overlaps(extents: list[Extent | None]) -> list[int]:
    """A number for each, the same where they lie in one memory and overlap, or both overlap a third."""
    groups = list(range(len(extents)))
    order = sorted((extent, i) for i, extent in enumerate(extents) if extent is not None)
    stop, memory, group = 0, None, -1
    for extent, i in order:
        if extent.memory != memory or extent.start >= stop:
            group, stop, memory = i, extent.stop, extent.memory
        groups[i], stop = group, max(stop, extent.stop)
    return groups
