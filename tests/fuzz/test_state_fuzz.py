"""Mutated records of states raise what they should and nothing else, and nothing is read outside of what is there."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.mutations import Coder, check, iter_cuts_and_pastes, iter_flipped_bits

from stockroom import CorruptionError, FormatVersionError, SchemaError, StockRoom
from stockroom.content.state import StateRecord, ValueRecord, decode_state, decode_value
from stockroom.content.structure import decode_structure, encode_structure
from stockroom.digest import ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.repository.writing.stage_workspace import StageWorkspace
from stockroom.shelves.model.flatten import flatten
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.model.state import OpenState, State

FLAT = torch.arange(12.0)
NOTED: Any = OrderedDict({"layer.weight": FLAT, "layer.bias": None, 7: {"\ud800": [FLAT[4:], FLAT[4:]]}})
NOTED._metadata = OrderedDict({"": {"version": 1, "name": "x", "scale": 0.5, "flags": (True, [None])}})
SMALL = {
    "noted": NOTED,
    "spread": torch.arange(3.0).expand(2, 3),
    "complex": [torch.ones(3, dtype=torch.complex32), np.arange(6).reshape(2, 3).view("M8[25s]")],
    "scalars": (True, 1 << 80, -0.5, 1j, "text \ud800", b"\0\1", np.float16(2), {}),
    "count": Counter("aab"),
    "empty": np.zeros((3, 0), np.int8),
}
STRUCTURE = encode_structure(flatten(SMALL, where="here").structure)
VALUE = ValueRecord(
    flatten(SMALL, where="here").structure,
    tuple(b"".join(piece.tobytes() for piece in source.pieces) for source in flatten(SMALL, where="here").leaves),
).encode()
STATE = StateRecord(bytes(range(32)), b"\xff" * 32, {"epoch": 3, "note": "ä", "nested": {"a": [1, None, 0.5]}}).encode()

DECODERS: dict[str, Coder] = {
    "state": (STATE, lambda data: decode_state(data, where="here"), lambda record: record.encode()),
    "value": (VALUE, lambda data: decode_value(data, where="here"), lambda record: record.encode()),
    "structure": (
        STRUCTURE,
        lambda data: decode_structure(data, where="here"),
        lambda structure: encode_structure(structure.top),
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_every_flipped_bit(name: str) -> None:
    check(DECODERS[name], DECODERS[name][0])
    for mutated in iter_flipped_bits(DECODERS[name][0]):
        check(DECODERS[name], mutated)


@pytest.mark.parametrize("name", DECODERS)
def test_every_truncation_is_malformed(name: str) -> None:
    data, decode, _ = DECODERS[name]
    for nbytes in range(len(data)):
        with pytest.raises(MalformedRecordError):
            decode(data[:nbytes])


@pytest.mark.parametrize("name", DECODERS)
def test_a_newer_version_asks_for_an_upgrade(name: str) -> None:
    data, decode, _ = DECODERS[name]
    with pytest.raises(FormatVersionError, match="upgrade"):
        decode(data[:4] + b"\2" + data[5:])


@pytest.mark.parametrize("name", DECODERS)
def test_random_cuts_and_pastes(name: str) -> None:
    for mutated in iter_cuts_and_pastes(DECODERS[name][0], 2000):
        check(DECODERS[name], mutated)


@given(body=st.binary(max_size=200))
def test_any_bytes_after_the_head(body: bytes) -> None:
    for coder in DECODERS.values():
        check(coder, coder[0][:5] + body)


@pytest.mark.parametrize("depth", [101, 1000, 100_000])
@pytest.mark.parametrize(
    "around", [(b"\x92\xa1l\x91", b""), (b"\x95\xa1d\xa4dict\x91\xa1a\x91", b"\xc0")], ids=["list", "dict"]
)
def test_deep_nesting_is_malformed(depth: int, around: tuple[bytes, bytes]) -> None:
    before, after = around
    nested = before * depth + b"\x92\xa1c\xc0" + after * depth
    with pytest.raises(MalformedRecordError):
        decode_structure(STRUCTURE[:5] + b"\x91" + nested, where="here")


@pytest.mark.parametrize("depth", [101, 1000, 100_000])
def test_deep_nesting_of_notes_is_malformed(depth: int) -> None:
    notes = b"\x92\xa1l\x91" * depth + b"\x92\xa1c\xc0"
    with pytest.raises(MalformedRecordError):
        decode_structure(STRUCTURE[:5] + b"\x91\x95\xa1d\xa4dict\x90\x90" + notes, where="here")


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", DECODERS)
def test_lengths_that_lie_are_malformed(name: str, claim: bytes) -> None:
    data, decode, _ = DECODERS[name]
    with pytest.raises(MalformedRecordError):
        decode(data[:5] + claim)


# -- nodes that cannot be

ARRAY = ["a", "torch", "float32", [3]]
MEMORY = ["v", "float32", [2, 3], [0, 1], 0, 3, "a"]
NIL = ["c", None]


def wrap(*entries: tuple[Any, Any], notes: Any = None) -> list[Any]:
    return ["d", "dict", [key for key, _ in entries], [node for _, node in entries], notes]


IMPOSSIBLE: dict[str, Any] = {
    "more keys than nodes": ["d", "dict", ["a", "b"], [NIL], None],
    "more nodes than keys": ["d", "dict", ["a"], [NIL, NIL], None],
    "a key twice": wrap(("a", NIL), ("a", NIL)),
    "a key twice, both leaves": wrap(("a", ARRAY), ("a", ARRAY)),
    "a key of 64 bits unsigned": wrap((1 << 63, NIL)),
    "a text written otherwise": wrap(("\0" + "61", NIL)),
    "a text that is no hex": wrap(("\0zz", NIL)),
    "a text in capital hex": wrap(("\0EDA080", NIL)),
    "a text that is no UTF-8": wrap(("\0ff", NIL)),
    "another kind of dict": ["d", "set", [], [], None],
    "a value outside notes": wrap(("a", ["c", 1])),
    "a leaf in notes": wrap(notes=wrap(("a", ARRAY))),
    "a leaf for notes": wrap(notes=ARRAY),
    "another library": ["a", "jax", "float32", [3]],
    "another dtype": ["a", "torch", "float33", [3]],
    "an alias of a dtype": ["a", "numpy", "f4", [3]],
    "a big-endian dtype": ["a", "numpy", ">f4", [3]],
    "a dtype of objects": ["a", "numpy", "O", [3]],
    "a dtype of records": ["a", "numpy", "f4,f4", [3]],
    "a dtype that is no Python": ["a", "numpy", "(2", [3]],
    "torch's dtype for numpy": ["a", "numpy", "complex32", [3]],
    "a scalar with axes": ["a", "scalar", "float32", [3]],
    "a negative length": ["a", "torch", "float32", [-1]],
    "a length beyond all bounds": ["a", "torch", "float32", [1 << 49]],
    "more bytes than there can be": ["a", "torch", "float32", [1 << 40, 1 << 40]],
    "more axes than there can be": ["a", "torch", "float32", [1] * 65],
    "a tie to nothing": wrap(("a", ["=", "b"])),
    "a tie to itself": wrap(("a", ["=", "a"])),
    "a tie to what comes later": wrap(("a", ["=", "b"]), ("b", ARRAY)),
    "a tie to a tie": wrap(("a", ARRAY), ("b", ["=", "a"]), ("c", ["=", "b"])),
    "a tie to a text": wrap(("a", ["s", "str"]), ("b", ["=", "a"])),
    "memory of nobody": wrap(("b", MEMORY)),
    "memory of an array": wrap(("a", ARRAY), ("b", MEMORY)),
    "memory of what comes later": wrap(("b", MEMORY), ("a", MEMORY)),
    "memory of two dtypes": wrap(("a", MEMORY), ("b", ["v", "int32", [3], [1], 0, 3, "a"])),
    "memory of two lengths": wrap(("a", MEMORY), ("b", ["v", "float32", [3], [1], 0, 4, "a"])),
    "memory of one's own, called otherwise": wrap(("a", MEMORY), ("b", ["v", "float32", [3], [1], 0, 3, "b/"])),
    "a stride too few": wrap(("a", ["v", "float32", [2, 3], [1], 0, 3, "a"])),
    "a stride that is negative": wrap(("a", ["v", "float32", [2], [-1], 1, 3, "a"])),
    "an end beyond the memory": wrap(("a", ["v", "float32", [2, 3], [1, 1], 0, 3, "a"])),
    "a start beyond the memory": wrap(("a", ["v", "float32", [1], [1], 3, 3, "a"])),
    "nothing of a memory": wrap(("a", ["v", "float32", [0], [1], 0, 3, "a"])),
    "a node of no kind": ["x", 1],
    "a node that is no array": "a",
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_structure_that_makes_no_sense_is_malformed(what: str) -> None:
    data = STRUCTURE[:5] + msgspec.msgpack.encode([IMPOSSIBLE[what]])
    with pytest.raises(MalformedRecordError, match=r"^here: .*fsck"):
        decode_structure(data, where="here")


def test_those_around_it_make_sense() -> None:
    for node in (wrap(("a", MEMORY), ("b", ARRAY), ("c", ["=", "b"])), ARRAY, NIL, wrap(notes=["c", 1])):
        assert decode_structure(STRUCTURE[:5] + msgspec.msgpack.encode([node]), where="here").top


@pytest.mark.parametrize(
    "payloads",
    [(), (b"\0" * 12, b""), (b"\0" * 11,), (b"\0" * 13,)],
    ids=["none", "one too many", "too short", "too long"],
)
def test_payloads_that_do_not_fit_are_malformed(payloads: tuple[bytes, ...]) -> None:
    data = VALUE[:5] + msgspec.msgpack.encode({"structure": ARRAY, "payloads": payloads})
    with pytest.raises(MalformedRecordError, match="do not fit its structure"):
        decode_value(data, where="here")


# -- reading what was mutated


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockRoom]:
    """A handle that writes, with the small state saved as a model, and never commits."""
    path = tmp_path_factory.mktemp("fuzz") / "repo"
    StockRoom.init(path).close()
    with StockRoom(path, enable_write=True) as stock:
        stock.model["m"] = SMALL
        yield stock


def workspace_of(stock: StockRoom) -> StageWorkspace:
    workspace = stock._pin.workspace
    assert workspace is not None
    return workspace


def open_state(stock: StockRoom, record: Any) -> State:
    workspace = workspace_of(stock)
    reader = LeafReader(workspace.snapshot, record, stock._repository.tensors, workspace.read_unflushed_chunk)
    source = OpenState(stock._repository, reader, kind="model", name="m", check_open=lambda: None)
    return State(source)


def read_every_way(stock: StockRoom, record: Any) -> int:
    """Read a state in every way there is; how many of them gave something. Only our own errors may come."""
    given = 0
    ways: list[Callable[[State], Any]] = [
        lambda state: state.load(),
        lambda state: state.load(as_numpy=True),
        lambda state: state.load(rows=slice(0, 2)),
        lambda state: state.load(rows=slice(0, 2), as_numpy=True),
        lambda state: [touch(value) for value in state.values()],
        lambda state: list(state.leaves()),
        lambda state: state.nbytes,
    ]
    for way in ways:
        with suppress(CorruptionError, SchemaError):
            touch(way(open_state(stock, record)))
            given += 1
    return given


WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
MANY = 1 << 20  # more elements than any of the memories has: they are repeated


def touch(value: Any) -> Any:
    """Read all memory that values say they have."""
    if isinstance(value, State):
        value = value.load()
    if isinstance(value, torch.Tensor) and value.element_size() in WORDS:
        words = value.view(WORDS[value.element_size()])
        return words.clone() if value.numel() < MANY else words[(-1,) * value.ndim].clone()
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.size < MANY else value[(-1,) * value.ndim]
    if isinstance(value, dict):
        return [touch(part) for part in value.values()]
    return [touch(part) for part in value] if isinstance(value, list | tuple) else value


def mutate(node: Any, rng: random.Random) -> Any:
    """A decoded record with something in it changed, taken out, doubled, or put elsewhere."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
        for key in keys:
            places.append((part, key))
            walk(part[key])

    walk(node)
    for _ in range(rng.randint(1, 2)):
        holder, key = rng.choice(places)
        other, other_key = rng.choice(places)
        with suppress(IndexError, KeyError):
            match rng.randrange(4):
                case 0:
                    holder[key] = _change(holder[key], rng)
                case 1 if isinstance(holder, list):
                    holder.insert(key, msgspec.msgpack.decode(msgspec.msgpack.encode(holder[key])))
                case 2 if isinstance(holder, list):
                    del holder[key]
                case _:
                    holder[key] = msgspec.msgpack.decode(msgspec.msgpack.encode(other[other_key]))
    return node


def _change(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return rng.choice([True, None, 0, "", "a", []])
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, 0, -1, 1 << 20, 1 << 47, 1 << 48, 1 << 62])
    if isinstance(value, str):
        return rng.choice(
            ["float64", "int8", "complex32", "M8[s]", "datetime64[s]", "torch", "numpy", "a", "str", "bytes"]
        )
    if isinstance(value, bytes):
        return rng.choice([value[:-1], value + b"\xff", b"\xff" * len(value)])
    return value


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_value_is_read_or_refused(writer: StockRoom, seed: int) -> None:
    rng = random.Random(seed)
    decoded = given = 0
    for _ in range(1500):
        mutated = VALUE[:5] + msgspec.msgpack.encode(mutate(msgspec.msgpack.decode(VALUE[5:]), rng))
        with suppress(MalformedRecordError):
            record = decode_value(mutated, where="here")
            decoded += 1
            given += read_every_way(writer, record)
    assert decoded > 10
    assert given > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_structure_over_a_whole_tree_is_read_or_refused(writer: StockRoom, seed: int) -> None:
    rng = random.Random(100 + seed)
    whole = workspace_of(writer).find_state("model/m")
    assert isinstance(whole, StateRecord)
    decoded = given = 0
    for _ in range(1500):
        mutated = STRUCTURE[:5] + msgspec.msgpack.encode(mutate(msgspec.msgpack.decode(STRUCTURE[5:]), rng))
        with suppress(MalformedRecordError):
            decode_structure(mutated, where="here")
            decoded += 1
            digest: ObjectDigest = workspace_of(writer).objects.put_object(mutated)
            given += read_every_way(writer, msgspec.structs.replace(whole, structure=digest))
    assert decoded > 50
    assert given > 50


def test_unmutated_it_is_read_in_every_way(writer: StockRoom) -> None:
    whole = workspace_of(writer).find_state("model/m")
    assert read_every_way(writer, whole) == read_every_way(writer, decode_value(VALUE, where="here")) == 7


def test_what_refers_to_no_structure_is_malformed(writer: StockRoom, tmp_path: Path) -> None:
    whole = workspace_of(writer).find_state("model/m")
    assert isinstance(whole, StateRecord)
    for wrong in (whole.root, workspace_of(writer).objects.put_object(STATE)):
        with pytest.raises(MalformedRecordError):
            open_state(writer, msgspec.structs.replace(whole, structure=wrong))
    with pytest.raises(CorruptionError):
        open_state(writer, msgspec.structs.replace(whole, structure=bytes(32)))
    with pytest.raises(CorruptionError):
        open_state(writer, msgspec.structs.replace(whole, root=whole.structure)).load()
