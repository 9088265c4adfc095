"""Decoded nodes in front of a store."""

from __future__ import annotations

import threading

import numpy as np

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, NodeCache, NodeStore, Tree, TreeFormat

INT_8 = TreeFormat(KeyType.INT, 8)


def test_the_cache_stays_within_its_capacity() -> None:
    store = MemoryNodes()
    nodes = NodeCache(store, capacity=4)
    tree = Tree.build(nodes, INT_8, np.arange(50_000), np.zeros((50_000, 8), np.uint8))
    leaves = [digest.tobytes() for digest in tree.directory().digests]
    for digest in leaves[:10]:
        nodes.read(digest)
    store.reset_counts()
    for digest in leaves[6:10]:
        nodes.read(digest)
    assert store.gets == 0
    nodes.read(leaves[0])
    assert store.gets == 1


def test_trees_made_from_one_another_share_decoded_nodes() -> None:
    store = MemoryNodes()
    tree = Tree.build(store, INT_8, np.arange(50_000), np.zeros((50_000, 8), np.uint8))
    edited = tree.edit([7], np.ones((1, 8), np.uint8))
    store.reset_counts()
    assert edited.get(7) == b"\1" * 8
    assert store.gets == 0


def test_a_node_just_written_is_read_without_the_store() -> None:
    store = MemoryNodes()
    nodes = NodeCache(store)
    tree = Tree.build(nodes, INT_8, np.arange(5000), np.zeros((5000, 8), np.uint8))
    store.reset_counts()
    assert tree.get(4999) == bytes(8)
    assert store.gets == 0


def test_a_cache_is_a_node_store_itself() -> None:
    nodes = NodeCache(MemoryNodes())
    assert isinstance(nodes, NodeStore)
    digest = nodes.put_object(b"anything")
    assert nodes.get_object(digest) == b"anything"
    assert nodes.get_objects([digest, digest]) == [b"anything"] * 2


def test_threads_may_share_a_cache_that_is_too_small() -> None:
    tree = Tree.build(NodeCache(MemoryNodes(), capacity=3), INT_8, np.arange(50_000), np.zeros((50_000, 8), np.uint8))
    errors: list[BaseException] = []

    def look_up(seed: int) -> None:
        try:
            for key in np.random.default_rng(seed).integers(0, 50_000, 300).tolist():
                assert tree.position_of(key) == key
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look_up, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
