"""What differs between two trees, and what finding it costs."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.errors import InvalidInputError
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, NodeCache, Tree, TreeFormat, diff_trees

WIDTH = 40
INT_40 = TreeFormat(KeyType.INT, WIDTH)
COUNT = 200_000


def random_values(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, WIDTH), dtype=np.uint8)


@pytest.fixture(scope="module")
def tree(store: MemoryNodes) -> Tree:
    return Tree.build(store, INT_40, np.arange(COUNT), random_values(COUNT, seed=0))


def fresh(tree: Tree, store: MemoryNodes) -> Tree:
    """The same tree with nothing decoded yet."""
    return Tree.open(NodeCache(store), tree.root)


def collect(old: Tree, new: Tree) -> tuple[list[int], list[int], list[int]]:
    added, removed, changed = [], [], []
    for batch in diff_trees(old, new):
        assert len(batch)
        added += list(batch.added_keys)
        removed += list(batch.removed_keys)
        changed += list(batch.changed_keys)
    return added, removed, changed


def test_ten_changes_read_a_few_nodes_of_each_level(tree: Tree, store: MemoryNodes) -> None:
    keys = np.arange(10) * 19_937 + 5
    other = tree.edit(keys, random_values(10, seed=1))
    old, new = fresh(tree, store), fresh(other, store)
    store.reset_counts()
    assert collect(old, new) == ([], [], keys.tolist())
    assert store.gets <= 2 * (1 + 2 + 10)


def test_equal_trees_differ_in_nothing_and_read_nothing(tree: Tree, store: MemoryNodes) -> None:
    store.reset_counts()
    assert list(diff_trees(tree, fresh(tree, store))) == []
    assert store.gets <= 1


def test_changed_keys_come_with_both_values(tree: Tree) -> None:
    new_values = random_values(2, seed=2)
    [batch] = diff_trees(tree, tree.edit([70, 71], new_values))
    assert list(batch.changed_keys) == [70, 71]
    assert np.array_equal(batch.old_values, random_values(COUNT, seed=0)[70:72])
    assert np.array_equal(batch.new_values, new_values)


def test_added_and_removed_keys_come_in_key_order(tree: Tree) -> None:
    new = np.array([-7, COUNT + 3, COUNT + 90_000])
    gone = np.arange(50_000, 120_000)
    other = tree.edit(new, random_values(3, seed=3), deletes=gone)
    assert collect(tree, other) == (new.tolist(), gone.tolist(), [])
    assert collect(other, tree) == (gone.tolist(), new.tolist(), [])


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_tree_of_fewer_levels_compares_with_a_taller_one(tree: Tree, size: int) -> None:
    small = Tree.build(
        MemoryNodes(), INT_40, np.arange(size) + 100_000, random_values(COUNT, seed=0)[100_000 : 100_000 + size]
    )
    rest = [key for key in range(COUNT) if not 100_000 <= key < 100_000 + size]
    assert collect(small, tree) == (rest, [], [])
    assert collect(tree, small) == ([], rest, [])


def test_disjoint_trees_are_compared_a_window_at_a_time(tree: Tree, store: MemoryNodes) -> None:
    other = Tree.build(store, INT_40, np.arange(COUNT) + COUNT, random_values(COUNT, seed=0))
    batches = list(diff_trees(fresh(tree, store), fresh(other, store)))
    assert sum(map(len, batches)) == 2 * COUNT
    assert max(map(len, batches)) < COUNT // 4
    store.reset_counts()
    next(iter(diff_trees(fresh(tree, store), fresh(other, store))))
    assert store.gets < 100


def test_interleaved_keys_are_all_found(tree: Tree) -> None:
    evens = Tree.build(MemoryNodes(), INT_40, np.arange(0, COUNT, 2), random_values(COUNT, seed=0)[::2])
    assert collect(evens, tree) == (list(range(1, COUNT, 2)), [], [])


def test_values_of_another_width_change_every_common_key(tree: Tree) -> None:
    other = Tree.build(MemoryNodes(), TreeFormat(KeyType.INT, 4), [5, 6, -1], np.zeros((3, 4), np.uint8))
    small = Tree.build(MemoryNodes(), INT_40, [5, 6, 7], random_values(3, seed=0))
    [batch] = diff_trees(small, other)
    assert (list(batch.added_keys), list(batch.removed_keys)) == ([-1], [7])
    assert list(batch.changed_keys) == [5, 6]
    assert (batch.old_values.shape, batch.new_values.shape) == ((2, WIDTH), (2, 4))


def test_trees_of_other_key_types_are_refused_at_once(tree: Tree) -> None:
    other = Tree.empty(MemoryNodes(), TreeFormat(KeyType.STR, WIDTH))
    with pytest.raises(InvalidInputError, match="int keys and str keys"):
        diff_trees(tree, other)
