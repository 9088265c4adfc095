"""Mutated node bytes raise MalformedRecordError and nothing else, and allocate little."""

from __future__ import annotations

import random
import struct
import tracemalloc

import numpy as np
import pytest

from stockroom.errors import MalformedRecordError
from stockroom.trees import KeyType, Node, TreeFormat, decode_node
from stockroom.trees.int_keys import int_keys
from stockroom.trees.node import parent_of_root
from stockroom.trees.str_keys import str_keys

MUTATIONS = 3000


def seeds() -> dict[str, bytes]:
    rng = np.random.default_rng(0)

    def values(count: int, width: int) -> np.ndarray:
        return rng.integers(0, 256, (count, width), dtype=np.uint8)

    ints = Node(TreeFormat(KeyType.INT, 5), 0, keys=int_keys([-(2**63), -1, 0, 3, 2**63 - 1]), values=values(5, 5))
    texts = ["", "a", "a/b", "b\ud800", "é", "\U0001f600"]
    strs = Node(TreeFormat(KeyType.STR, 2), 0, keys=str_keys(texts), values=values(6, 2))
    empty = Node(TreeFormat(KeyType.INT, 40), 0, keys=int_keys([]), values=values(0, 40))
    return {
        "int leaf": ints.encode(),
        "str leaf": strs.encode(),
        "empty leaf": empty.encode(),
        "int parent": parent_of_root(ints, bytes(32)).encode(),
        "str parent": parent_of_root(strs, bytes(32)).encode(),
    }


def mutate(data: bytes, rng: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(5)
        at = rng.randrange(len(mutated)) if mutated else 0
        if kind == 0 and mutated:
            mutated[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and mutated:
            mutated[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del mutated[at : at + rng.randint(1, 9)]
        elif kind == 3:
            mutated[at:at] = rng.randbytes(rng.randint(1, 9))
        elif len(mutated) > at + 4:
            mutated[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2**16, 2**31, 2**32 - 1]))
    return bytes(mutated)


@pytest.mark.parametrize("name", list(seeds()))
def test_mutated_bytes_are_malformed_or_mean_just_what_they_say(name: str) -> None:
    rng = random.Random(name)
    data = seeds()[name]
    refused = 0
    for _ in range(MUTATIONS):
        mutated = mutate(data, rng)
        try:
            node = decode_node(mutated)
        except MalformedRecordError:
            refused += 1
        else:
            assert node.encode() == mutated, "one content, one encoding"
    assert refused > MUTATIONS // 10


@pytest.mark.parametrize("name", list(seeds()))
def test_every_truncation_is_malformed(name: str) -> None:
    data = seeds()[name]
    for length in range(len(data)):
        with pytest.raises(MalformedRecordError):
            decode_node(data[:length])


@pytest.mark.parametrize("name", list(seeds()))
@pytest.mark.parametrize("count", [2**16, 2**31 - 1, 2**32 - 1])
def test_a_huge_count_allocates_nothing(name: str, count: int) -> None:
    data = seeds()[name]
    claimed = data[:12] + struct.pack("<I", count) + data[16:]
    tracemalloc.start()
    try:
        with pytest.raises(MalformedRecordError):
            decode_node(claimed)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
