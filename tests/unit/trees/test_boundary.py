"""Where levels are cut: sizes, termination, and independence from what came before a node."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Tree, TreeFormat
from stockroom.trees.boundary import MAX_NODE_SIZE, MIN_NODE_SIZE, list_ends
from stockroom.trees.int_keys import int_keys
from stockroom.trees.str_keys import str_keys

KIB = 1024


@pytest.mark.parametrize("width", [0, 9, 40, 300])
def test_nodes_of_int_keys_are_about_16_kib_and_within_bounds(width: int) -> None:
    ends = list_ends(int_keys(np.arange(-100_000, 300_000)), width, level=0)
    sizes = np.diff([0, *ends]) * (8 + width)
    assert 14 * KIB < sizes.mean() < 19 * KIB
    assert sizes.min() >= MIN_NODE_SIZE
    assert sizes.max() < MAX_NODE_SIZE + 8 + width


def test_nodes_of_str_keys_are_about_16_kib_and_within_bounds() -> None:
    keys = str_keys([f"train/{number}" + "x" * (number % 90) for number in range(60_000)])
    running = np.cumsum(keys.encoded_sizes() + 40)
    sizes = np.diff(running[np.array(list_ends(keys, 40, level=0)) - 1], prepend=0)
    assert 12 * KIB < sizes.mean() < 20 * KIB
    assert sizes.min() >= MIN_NODE_SIZE
    assert sizes.max() < MAX_NODE_SIZE + 200


def test_an_item_wider_than_the_minimum_may_close_a_node_by_itself() -> None:
    ends = list_ends(int_keys(np.arange(5000)), 4096, level=0)
    sizes = np.diff([0, *ends]) * 4104
    assert sizes.max() < MAX_NODE_SIZE + 4104
    assert 12 * KIB < sizes.mean() < 20 * KIB


def test_a_cut_depends_only_on_what_follows_the_cut_before() -> None:
    keys = int_keys(np.random.default_rng(0).permutation(40_000))
    ends = list_ends(keys, 40, level=0)
    for cut in ends[:-1:17]:
        assert [cut + end for end in list_ends(keys.slice(cut, len(keys)), 40, level=0)] == [
            end for end in ends if end > cut
        ]


def reference_ends(items: list[tuple[int, int]], level: int) -> list[int]:
    """The rule of the format taken literally: items of (64-bit key hash, size) one by one, in Python's integers."""

    def mix(word: int) -> int:
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    salt = mix((level + 1) * 0x9E3779B97F4A7C15 % 2**64)
    ends, running = [], 0
    for index, (key_hash, size) in enumerate(items):
        running += size
        quotient = (mix(key_hash ^ salt) >> 32) // size
        table = range(2048, 65537, 64)
        threshold = next((x for x in table if (4 * x**3 << 32) // 18_076**4 > quotient), 65536)
        if running >= threshold:
            ends.append(index + 1)
            running = 0
    return ends


@pytest.mark.parametrize("level", [0, 1, 31])
def test_cuts_follow_the_rule_taken_literally(level: int) -> None:
    numbers = np.random.default_rng(level).integers(-(2**63), 2**63 - 1, 1500).tolist()
    expected = reference_ends([(number % 2**64, 8 + 200) for number in numbers], level)
    assert list_ends(int_keys(numbers), 200, level=level) == expected
    assert len(expected) > 8

    texts = [f"é{number}" + "y" * (number % 300) for number in range(1000)]
    encoded = [text.encode() for text in texts]
    hashes = [int.from_bytes(blake3(text).digest()[:8], "little") for text in encoded]
    sizes = [len(text) + 4 + 40 for text in encoded]
    expected = reference_ends(list(zip(hashes, sizes, strict=True)), level)
    assert list_ends(str_keys(texts), 40, level=level) == expected
    assert len(expected) > 5


def test_a_run_may_be_cut_in_pieces_of_any_length() -> None:
    keys = int_keys(np.arange(20_000))
    ends = list_ends(keys, 40, level=0)
    for length in (1000, 1001, 7777):
        found = list_ends(keys.slice(0, length), 40, level=0)
        assert found == [end for end in ends if end <= length]


def test_each_level_cuts_by_its_own_hash() -> None:
    keys = int_keys(np.arange(100_000))
    assert list_ends(keys, 40, level=0) != list_ends(keys, 40, level=1)


def test_written_nodes_keep_the_bounds_at_every_level() -> None:
    store = MemoryNodes()
    keys = [f"{number:0900d}" for number in range(3000)]
    Tree.build(store, TreeFormat(KeyType.STR, 4), keys, np.zeros((3000, 4), np.uint8))
    assert max(map(len, store.objects.values())) <= 16 + MAX_NODE_SIZE + 944


def test_no_items_have_no_ends() -> None:
    assert list_ends(int_keys([]), 40, level=0) == []
