"""Editing a tree: the same root as building anew, at the price of the change."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.errors import InvalidInputError
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Tree, TreeFormat, level_writer
from stockroom.trees.boundary import list_ends
from stockroom.trees.keys import Keys

WIDTH = 40
INT_40 = TreeFormat(KeyType.INT, WIDTH)
COUNT = 200_000


def random_values(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, WIDTH), dtype=np.uint8)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return random_values(COUNT, seed=0)


@pytest.fixture(scope="module")
def tree(store: MemoryNodes, values: np.ndarray) -> Tree:
    return Tree.build(store, INT_40, np.arange(COUNT) * 3, values)


def depth(tree: Tree) -> int:
    return tree.nodes.read(tree.root).level + 1


@pytest.mark.parametrize("key", [-5, 0, 1, 299_999, 300_000, 3 * COUNT - 3, 3 * COUNT + 7])
def test_one_changed_key_rewrites_about_one_node_a_level(tree: Tree, store: MemoryNodes, key: int) -> None:
    store.reset_counts()
    edited = tree.edit([key], random_values(1, seed=1))
    assert depth(tree) == 3
    assert store.puts <= depth(tree) + 2
    assert edited.get(key) == random_values(1, seed=1).tobytes()


def test_values_replaced_under_the_same_keys_cut_nothing_again(
    tree: Tree, store: MemoryNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[int] = []

    def cut(keys: Keys, item_width: int, *, level: int) -> list[int]:
        cuts.append(level)
        return list_ends(keys, item_width, level=level)

    monkeypatch.setattr(level_writer, "list_ends", cut)
    tree.edit(np.arange(0, 3 * COUNT, 3000), random_values(COUNT // 1000, seed=5))
    assert cuts == []
    tree.edit([1], random_values(1, seed=5))
    assert 0 in cuts


@pytest.mark.parametrize("key", [0, 299_997, 3 * COUNT - 3])
def test_one_deleted_key_rewrites_about_one_node_a_level(tree: Tree, store: MemoryNodes, key: int) -> None:
    store.reset_counts()
    edited = tree.edit(deletes=[key])
    assert store.puts <= depth(tree) + 2
    assert edited.get(key) is None
    assert edited.count == COUNT - 1


def test_undoing_an_edit_gives_the_old_root(tree: Tree, values: np.ndarray) -> None:
    new = np.arange(1, 900, 3)
    assert tree.edit(new, random_values(len(new), seed=2)).edit(deletes=new).root == tree.root
    gone = np.arange(3000, 60_000, 3)
    assert tree.edit(deletes=gone).edit(gone, values[gone // 3]).root == tree.root


def test_edits_that_change_nothing_write_nothing(tree: Tree, store: MemoryNodes, values: np.ndarray) -> None:
    store.reset_counts()
    same = tree.edit(np.arange(0, 3000, 3), values[:1000], deletes=[1, 4, 10**9])
    assert same.root == tree.root
    assert store.puts == 0


@pytest.mark.parametrize("count", [1, 50, 5000, COUNT])
def test_appended_keys_give_the_root_of_a_tree_built_anew(tree: Tree, values: np.ndarray, count: int) -> None:
    keys = np.arange(COUNT, COUNT + count) * 3
    added = random_values(count, seed=3)
    rebuilt = Tree.build(MemoryNodes(), INT_40, np.arange(COUNT + count) * 3, np.concatenate([values, added]))
    assert tree.edit(keys, added).root == rebuilt.root


def test_scattered_puts_and_deletes_give_the_root_of_a_tree_built_anew(tree: Tree, values: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    for count in (3, 300, 30_000):
        touched = rng.choice(3 * COUNT, 2 * count, replace=False)
        puts, deletes = touched[:count], touched[count:]
        added = random_values(count, seed=count)
        edited = tree.edit(puts, added, deletes=deletes)

        old = np.arange(COUNT) * 3
        kept = ~np.isin(old, touched)
        rebuilt = Tree.build(
            MemoryNodes(),
            INT_40,
            np.concatenate([old[kept], puts]),
            np.concatenate([values[kept], added]),
        )
        assert edited.root == rebuilt.root


def test_deleting_a_long_run_gives_the_root_of_a_tree_built_anew(tree: Tree, values: np.ndarray) -> None:
    old = np.arange(COUNT) * 3
    for start, stop in ((0, 150_000), (50_000, 199_000), (1000, COUNT), (0, COUNT - 1)):
        gone = np.zeros(COUNT, np.bool_)
        gone[start:stop] = True
        rebuilt = Tree.build(MemoryNodes(), INT_40, old[~gone], values[~gone])
        assert tree.edit(deletes=old[gone]).root == rebuilt.root


def test_deleting_everything_gives_the_empty_tree(tree: Tree) -> None:
    assert tree.edit(deletes=np.arange(COUNT) * 3) == Tree.empty(MemoryNodes(), INT_40)


def test_filling_the_empty_tree_equals_building_it(values: np.ndarray, tree: Tree) -> None:
    assert Tree.empty(MemoryNodes(), INT_40).edit(np.arange(COUNT) * 3, values).root == tree.root


def test_many_small_commits_equal_one_build() -> None:
    rng = np.random.default_rng(5)
    keys = rng.permutation(20_000)
    values = random_values(len(keys), seed=6)
    tree = Tree.empty(MemoryNodes(), INT_40)
    for rows in np.array_split(np.arange(len(keys)), 150):
        tree = tree.edit(keys[rows], values[rows])
    assert tree.root == Tree.build(MemoryNodes(), INT_40, keys, values).root


def test_a_tree_with_keys_of_a_kibibyte_and_wide_values_still_ends_in_one_root() -> None:
    tree_format = TreeFormat(KeyType.STR, 4096)
    keys = [f"{number:01024d}" for number in range(400)]
    values = np.random.default_rng(7).integers(0, 256, (400, 4096), dtype=np.uint8)
    tree = Tree.build(MemoryNodes(), tree_format, keys, values)
    assert depth(tree) >= 3
    edited = tree.edit(deletes=keys[::2])
    assert edited.root == Tree.build(MemoryNodes(), tree_format, keys[1::2], values[1::2]).root


def test_a_tree_may_hold_keys_without_values() -> None:
    tree_format = TreeFormat(KeyType.INT, 0)
    tree = Tree.build(MemoryNodes(), tree_format, np.arange(50_000))
    edited = tree.edit([-1], deletes=[0])
    assert (edited.get(-1), edited.get(0)) == (b"", None)
    assert edited.root == Tree.build(MemoryNodes(), tree_format, [-1, *range(1, 50_000)]).root


def test_a_key_named_twice_is_refused(tree: Tree) -> None:
    with pytest.raises(InvalidInputError, match="found a duplicate"):
        Tree.build(MemoryNodes(), INT_40, [1, 2, 1], random_values(3, seed=0))
    with pytest.raises(InvalidInputError, match="found a duplicate"):
        tree.edit([5, 5], random_values(2, seed=0))
    with pytest.raises(InvalidInputError, match="found a duplicate"):
        tree.edit([5], random_values(1, seed=0), deletes=[5])


def test_an_edit_leaves_the_old_tree_as_it_was(tree: Tree, values: np.ndarray) -> None:
    tree.edit([0], random_values(1, seed=9))
    assert tree.get(0) == values[0].tobytes()
