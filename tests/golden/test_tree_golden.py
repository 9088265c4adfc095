"""Frozen roots and bytes: the format of trees may not drift. A change here is a change of format version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeysLike, KeyType, Node, Tree, TreeFormat, decode_node
from stockroom.trees.int_keys import int_keys
from stockroom.trees.str_keys import str_keys

ROOTS = {
    "int 0 0": "da44826f33e886d19c6f3512f0a73c209814c4139a90fcc615af6d706e6b15a4",
    "int 0 1": "2e6ae7a5eb2a13732582511f315fa6621f7c4270c7c4d94fcbcb2dc7d28820b4",
    "int 0 1000": "4716995d5a656b422be9c005166a9fc16a5fece3f4d910e7b939920ef18a2e9e",
    "int 0 100000": "7784067e52a790f31c70457e05c9d61afe6b5234b6282a78300a96cdcfe0383d",
    "int 40 0": "4d5b887f75baac7b2fcaac081dd01d5d8212e213aafc31c4d0ad222d78e2ac04",
    "int 40 1": "a94d3d8cfe8b44d1564a26499b8e6cb6def15b858e8ff43c3e6f8ff4f85240d1",
    "int 40 1000": "ad9692feb8bcbb00361ef9c09fe4fafbac0948a3f265653a6b6498e5dbeae3bc",
    "int 40 100000": "7170219811ddfc25414a9de1791425e1f5c28dc638f07982534f7ae3082a69a3",
    "int 4096 0": "1b74d60c0c0747260114d8c97481baf52bb3650434f78a4c335306b82e28fffc",
    "int 4096 1": "b3c24b133eef6fba047abffb938d69fd1c5057f3f603f395e9caa4f62e830385",
    "int 4096 1000": "da082c12f9780c49d92c7f0fa97d86fdf8f450adebf4b58de9e3aba855af4cfd",
    "str 0 0": "bf7dd4566c0f0363bb7e8a336c6839ac6c90d03dd02c6fdd327ee7d9601a85a0",
    "str 0 1": "d0954220fa490d88f5241a8f4d64a1714eda79939cd4dd1ad8de91ef1f75670d",
    "str 0 1000": "96655e43ed379d2ba80c0b106093939d0ef3a77e1340bf9eb27f1ced52f6bea8",
    "str 0 100000": "e6a4abe4c71139f318a8684413f60e67e17bc371878107b976672f3ebc90f458",
    "str 40 0": "5510833cd0c5b7535e7cfc44fd47212b10ed312ab43c57b0c93854bb74a28869",
    "str 40 1": "3dc9293efe3626a3287d1a0070242d3ed69cb7dbf751ee5bda99940d1fe3d39f",
    "str 40 1000": "ea0bde07c715f68b4ba185a8092dbc1d72af8f4451e4195e389cb502a357d77d",
    "str 40 100000": "9a86a507e8b3a4b6f88d48a79c595fa9587ed4ac14671e391cd1b6553d496478",
    "str 900 0": "9e92ad08409d1929ff3489433b5d7e3404662fa6e33e9d094877f11517df50be",
    "str 900 1": "ae2530f4f7ed4a45d306070073656ed3aeabf19d3e0b1a62778756ca4fe6bc54",
    "str 900 1000": "d565dae121290957fe6c8e70a62af180172f8e8dc58725e2194712fdb9718093",
}


def golden_keys(key_type: KeyType, count: int) -> KeysLike:
    """Keys all over the range, the same on every machine."""
    if key_type is KeyType.INT:
        return (np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)
    return [f"dir {number * 2654435761 % 2**32:08x}/é\U0001f600{'x' * (number % 50)}" for number in range(count)]


def golden_values(count: int, width: int) -> np.ndarray:
    stream = blake3(b"golden tree values").digest(length=count * width) if count * width else b""
    return np.frombuffer(stream, np.uint8).reshape(count, width)


def content_of(name: str) -> tuple[TreeFormat, KeysLike, np.ndarray]:
    kind, width, count = name.split()
    tree_format = TreeFormat(KeyType(kind), int(width))
    return tree_format, golden_keys(tree_format.key_type, int(count)), golden_values(int(count), int(width))


@pytest.mark.parametrize("name", list(ROOTS))
def test_fixed_content_has_its_frozen_root(name: str) -> None:
    tree = Tree.build(MemoryNodes(), *content_of(name))
    assert tree.root.hex() == ROOTS[name]


def test_editing_arrives_at_the_frozen_root() -> None:
    name = "int 40 100000"
    tree_format, keys, values = content_of(name)
    tree = Tree.empty(MemoryNodes(), tree_format)
    for rows in np.array_split(np.arange(100_000), 5):
        tree = tree.edit(np.asarray(keys)[rows], values[rows])
    assert tree.root.hex() == ROOTS[name]


def int_node() -> Node:
    keys = int_keys([-(2**63), -2, 0, 1, 300, 2**63 - 1])
    return Node(TreeFormat(KeyType.INT, 7), 0, keys=keys, values=golden_values(6, 7))


def str_node() -> Node:
    keys = str_keys(["", " ", "a/b", "z\ud800", "é", "\U0010ffff"])
    return Node(TreeFormat(KeyType.STR, 3), 0, keys=keys, values=golden_values(6, 3))


def parent_node() -> Node:
    values = golden_values(2, 40).copy()
    values[:, 32:] = [[5, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]]
    return Node(TreeFormat(KeyType.INT, 7), 1, keys=int_keys([-9, 12]), values=values)


@pytest.mark.parametrize("make", [int_node, str_node, parent_node])
def test_a_small_node_has_its_frozen_bytes(make: object) -> None:
    node: Node = make()  # type: ignore[operator]
    file = Path(__file__).with_name(f"tree_{make.__name__}_v1.hex")  # type: ignore[attr-defined]
    frozen = bytes.fromhex(file.read_text(encoding="ascii"))
    assert node.encode() == frozen
    back = decode_node(frozen)
    assert (back.level, back.format, list(back.keys.batch)) == (node.level, node.format, list(node.keys.batch))
    assert np.array_equal(back.values, node.values)
