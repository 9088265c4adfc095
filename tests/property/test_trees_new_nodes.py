"""The nodes that one tree has and another does not: all of them, found by looking only where the trees differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Tree, TreeFormat, iter_new_nodes, iter_range

FORMAT = TreeFormat(KeyType.INT, 40)


def make_values(keys: np.ndarray, salt: int = 0) -> np.ndarray:
    values = np.zeros((len(keys), 40), np.uint8)
    values[:, :8] = (np.asarray(keys, "<i8") + salt).view(np.uint8).reshape(-1, 8)
    values[:, 8] = 1
    return values


def build(nodes: MemoryNodes, keys: np.ndarray) -> Tree:
    return Tree.build(nodes, FORMAT, keys, make_values(keys))


def list_nodes(tree: Tree) -> set[bytes]:
    found, level = set(), [bytes(tree.root)]
    while level:
        found.update(level)
        level = [child for digest in level for child in _children(tree, digest)]
    return found


def _children(tree: Tree, digest: bytes) -> list[bytes]:
    node = tree.nodes.read(digest)
    return node.child_digests if node.level else []


keys = st.lists(st.integers(-(10**6), 10**6), max_size=400, unique=True)


@given(keys, keys, keys, st.integers(0, 3000), st.integers(0, 3))
def test_new_nodes_are_those_that_the_base_does_not_have(
    added: list[int], removed: list[int], changed: list[int], size: int, empty: int
) -> None:
    nodes = MemoryNodes()
    base = build(nodes, np.arange(0 if empty == 0 else size, dtype=np.int64))
    kept = list(dict.fromkeys(key for key in [*changed, *added] if key not in removed))
    deletes = [key for key in removed if base.get(key) is not None]
    tree = base.edit(kept, make_values(np.array(kept, np.int64), salt=7), deletes=deletes)
    batches = list(iter_new_nodes(tree, base))
    given_digests = [digest for batch in batches for digest in batch.digests]
    assert len(set(given_digests)) == len(given_digests)
    missing = list_nodes(tree) - list_nodes(base)
    assert missing <= set(given_digests) <= list_nodes(tree)
    values = {bytes(value) for batch in batches for value in batch.values}
    before = {bytes(value) for _, value in _iter_items(base)}
    now = {bytes(value) for _, value in _iter_items(tree)}
    assert now - before <= values <= now


def _iter_items(tree: Tree) -> list[tuple[object, np.ndarray]]:
    return [
        (key, value) for batch_keys, values in iter_range(tree) for key, value in zip(batch_keys, values, strict=True)
    ]


def test_without_a_base_every_node_and_value_is_new() -> None:
    tree = build(MemoryNodes(), np.arange(20_000, dtype=np.int64))
    batches = list(iter_new_nodes(tree, None))
    assert {bytes(digest) for batch in batches for digest in batch.digests} == list_nodes(tree)
    assert sum(len(batch.values) for batch in batches) == 20_000
    assert list(iter_new_nodes(tree, tree)) == [] or not any(batch.digests for batch in iter_new_nodes(tree, tree))


@pytest.mark.parametrize("size", [200_000])
def test_one_change_in_a_large_tree_costs_its_height(size: int) -> None:
    nodes = MemoryNodes()
    base = build(nodes, np.arange(size, dtype=np.int64))
    tree = base.edit([size // 3], make_values(np.array([5]), salt=10**9))
    reads = 0
    get_objects = nodes.get_objects

    def count(digests: list[bytes]) -> list[bytes]:
        nonlocal reads
        reads += len(digests)
        return get_objects(digests)

    nodes.get_objects = count  # type: ignore[method-assign,assignment]
    batches = list(iter_new_nodes(tree, base))
    assert sum(len(batch.digests) for batch in batches) <= 6
    assert sum(len(batch.values) for batch in batches) == 1
    assert reads <= 12


@given(st.integers(0, 3000), keys, st.integers(0, 20), st.integers(1, 20))
def test_values_are_left_out_exactly_if_a_replaced_leaf_has_them(
    size: int, changed: list[int], salt: int, width: int
) -> None:
    nodes, tree_format = MemoryNodes(), TreeFormat(KeyType.INT, width)
    rng = np.random.default_rng(size)
    base = Tree.build(nodes, tree_format, np.arange(size), rng.integers(0, 3, (size, width), np.uint8))
    tree = base.edit(changed, rng.integers(salt, salt + 3, (len(changed), width), np.uint8))
    values = [bytes(value) for batch in iter_new_nodes(tree, base) for value in batch.values]
    mine, theirs = _list_leaves(tree), _list_leaves(base)
    replaced = {bytes(value) for leaf in theirs - mine for value in tree.nodes.read(leaf).values}
    fresh = [bytes(value) for leaf in mine - theirs for value in tree.nodes.read(leaf).values]
    assert sorted(values) == sorted(value for value in fresh if value not in replaced)


def _list_leaves(tree: Tree) -> set[bytes]:
    return {digest for digest in list_nodes(tree) if not tree.nodes.read(digest).level}


def test_without_values_no_leaf_is_read() -> None:
    nodes = MemoryNodes()
    base = build(nodes, np.arange(60_000, dtype=np.int64))
    tree = base.edit(np.arange(60_000), make_values(np.arange(60_000), salt=10**9))
    given_digests = {digest for batch in iter_new_nodes(tree, base) for digest in batch.digests}
    leaves = len(_list_leaves(tree))
    nodes.reset_counts()
    assert {digest for batch in iter_new_nodes(tree, base, with_values=False) for digest in batch.digests} == (
        given_digests
    )
    assert nodes.gets < leaves / 10
