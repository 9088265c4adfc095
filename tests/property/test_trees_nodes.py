"""Any node comes back from its bytes; cutting is independent of how a run is fed in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Node, NodeCache, TreeFormat, decode_node
from stockroom.trees.boundary import list_ends
from stockroom.trees.int_keys import int_keys
from stockroom.trees.level_writer import LevelWriter
from stockroom.trees.str_keys import str_keys

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec=None, categories=None), max_size=256)
WIDTHS = st.sampled_from([0, 1, 9, 40, 300])
QUICK = settings(max_examples=100, deadline=None)


@QUICK
@given(st.sets(INT64, max_size=60), WIDTHS)
def test_int_nodes_round_trip(keys: set[int], width: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (len(keys), width), dtype=np.uint8)
    node = Node(TreeFormat(KeyType.INT, width), 0, keys=int_keys(sorted(keys)), values=values)
    data = node.encode()
    back = decode_node(data)
    assert list(back.keys.batch) == sorted(keys)
    assert np.array_equal(back.values, values)
    assert back.encode() == data


@QUICK
@given(st.sets(TEXT, max_size=40), WIDTHS)
def test_str_nodes_round_trip(keys: set[str], width: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (len(keys), width), dtype=np.uint8)
    node = Node(TreeFormat(KeyType.STR, width), 0, keys=str_keys(sorted(keys)), values=values)
    data = node.encode()
    back = decode_node(data)
    assert back.keys.batch == sorted(keys)
    assert np.array_equal(back.values, values)
    assert back.encode() == data


@QUICK
@given(st.lists(TEXT, max_size=40))
def test_str_keys_sort_as_their_utf8_bytes(keys: list[str]) -> None:
    by_bytes = sorted(keys, key=lambda key: key.encode("utf-8", "surrogatepass"))
    batch = str_keys(keys)
    assert batch.take(batch.argsort()).batch == by_bytes


@QUICK
@given(st.integers(0, 2**32), st.lists(st.integers(0, 3000), max_size=5), WIDTHS)
def test_feeding_a_run_in_pieces_writes_the_same_nodes(seed: int, cuts: list[int], width: int) -> None:
    tree_format = TreeFormat(KeyType.INT, width)
    keys = int_keys(np.unique(np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, 3000)))
    values = np.zeros((len(keys), width), np.uint8)
    writer = LevelWriter(NodeCache(MemoryNodes()), tree_format, level=0)
    bounds = [0, *sorted(cuts), len(keys)]
    for start, stop in pairwise(bounds):
        writer.append(keys.slice(start, stop), values[start:stop])
    writer.finish()
    written, _ = writer.written()
    ends = list_ends(keys, width, level=0)
    expected = [keys[end - 1] for end in ends]
    assert list(written.batch)[: len(expected)] == expected
    assert len(written) - len(expected) == (ends[-1:] != [len(keys)])
