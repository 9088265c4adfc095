"""A node's canonical bytes, and the refusal of any others."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from stockroom.errors import MalformedRecordError
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Node, NodeCache, Tree, TreeFormat, decode_node
from stockroom.trees.int_keys import int_keys
from stockroom.trees.node import parent_of_root
from stockroom.trees.str_keys import str_keys


def int_node(keys: list[int], width: int = 3) -> Node:
    values = np.arange(len(keys) * width, dtype=np.uint8).reshape(len(keys), width)
    return Node(TreeFormat(KeyType.INT, width), 0, keys=int_keys(keys), values=values)


def str_node(keys: list[str], width: int = 2) -> Node:
    values = np.arange(len(keys) * width, dtype=np.uint8).reshape(len(keys), width)
    return Node(TreeFormat(KeyType.STR, width), 0, keys=str_keys(keys), values=values)


@pytest.mark.parametrize(
    "keys", [[], [0], [-(2**63), 2**63 - 1], [-(2**63), -1, 0, 1, 2**62, 2**63 - 1], list(range(99))]
)
def test_int_nodes_come_back_as_they_were(keys: list[int]) -> None:
    node = int_node(keys)
    back = decode_node(node.encode())
    assert back.keys.batch.tolist() == keys  # type: ignore[union-attr]
    assert np.array_equal(back.values, node.values)
    assert (back.format, back.level, len(back)) == (node.format, 0, len(keys))


@pytest.mark.parametrize(
    "keys", [[], [""], ["", " ", "/", "a", "a/b"], ["a\ud800", "a\udfff", "é", "\U0010ffff"], ["x" * 1024]]
)
def test_str_nodes_come_back_as_they_were(keys: list[str]) -> None:
    node = str_node(keys)
    back = decode_node(node.encode())
    assert back.keys.batch == keys
    assert np.array_equal(back.values, node.values)


def test_decoded_arrays_cannot_be_written_to() -> None:
    node = decode_node(int_node([1, 2]).encode())
    with pytest.raises(ValueError, match="read-only"):
        node.values[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        node.keys.batch[0] = 1  # type: ignore[index]


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    return data[:offset] + replacement + data[offset + len(replacement) :]


@pytest.mark.parametrize(
    ("offset", "replacement"),
    [
        (0, b"SRnx"),
        (4, b"\x02"),
        (5, b"\x20"),
        (5, b"\x01"),
        (6, b"\x00"),
        (6, b"\x03"),
        (7, b"\x01"),
        (8, b"\x04"),
        (8, b"\x01\x10"),
        (10, b"\x01"),
        (12, b"\x04"),
        (12, b"\xff\xff\xff\xff"),
        (24, bytes(8)),
        (24, b"\xff" * 8),
    ],
)
def test_a_field_out_of_range_is_malformed(offset: int, replacement: bytes) -> None:
    data = int_node([5, 6, 9]).encode()
    with pytest.raises(MalformedRecordError, match="node"):
        decode_node(patched(data, offset, replacement))


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ([2, 1], b"ab"),
        ([1, 9], b"ab"),
        ([1, 2], b"ba"),
        ([1, 2], b"aa"),
        ([1, 2], b"a\xff"),
        ([2, 3], b"\xc1\x81b"),
        ([1, 1030], b"a" + b"b" * 1029),
        ([1, 2**32 - 1], b"ab"),
    ],
)
def test_str_keys_out_of_order_or_not_utf8_are_malformed(ends: list[int], text: bytes) -> None:
    header = str_node(["a", "b"], width=0).encode()[:16]
    with pytest.raises(MalformedRecordError, match="node"):
        decode_node(header + struct.pack("<2I", *ends) + text)


@pytest.mark.parametrize("change", [b"", b"\0"])
def test_a_byte_too_many_or_too_few_is_malformed(change: bytes) -> None:
    data = int_node([1, 2]).encode()
    with pytest.raises(MalformedRecordError):
        decode_node(data + change if change else data[:-1])


@pytest.mark.parametrize("data", [b"", b"SRnd", bytes(16), bytes(200_000)])
def test_bytes_of_no_nodes_length_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        decode_node(data)


@pytest.mark.parametrize("count", [0, 2**48 + 1, 2**63, 2**64 - 1])
def test_a_child_without_keys_or_with_too_many_is_malformed(count: int) -> None:
    parent = parent_of_root(int_node([1, 2]), bytes(32))
    data = parent.encode()
    assert decode_node(data).count == 2
    with pytest.raises(MalformedRecordError, match="child"):
        decode_node(data[:-8] + struct.pack("<Q", count))


def test_a_node_above_the_leaves_without_children_is_malformed() -> None:
    with pytest.raises(MalformedRecordError, match="child"):
        decode_node(patched(int_node([]).encode(), 5, b"\x01"))


@pytest.mark.parametrize("child", [int_node([1]), int_node([1, 2], width=4), str_node(["a", "b"])])
def test_a_child_that_is_not_what_its_parent_says_is_malformed(child: Node) -> None:
    nodes = NodeCache(MemoryNodes())
    digest = nodes.write(child)
    root = nodes.write(parent_of_root(int_node([1, 2]), digest))
    tree = Tree.open(nodes, root)
    with pytest.raises(MalformedRecordError, match="expected a child"):
        tree.get(1)
    with pytest.raises(MalformedRecordError, match="expected a child"):
        tree.get_many([1])


def test_reading_a_leaf_refuses_what_is_no_leaf() -> None:
    tree = Tree.build(MemoryNodes(), TreeFormat(KeyType.INT, 0), np.arange(10_000))
    with pytest.raises(MalformedRecordError, match="expected a leaf"):
        tree.read_leaf(tree.root)
