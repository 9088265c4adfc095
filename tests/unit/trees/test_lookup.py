"""Finding keys and positions in a tree."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.errors import InvalidInputError
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, NodeCache, Tree, TreeFormat

INT_40 = TreeFormat(KeyType.INT, 40)
STR_8 = TreeFormat(KeyType.STR, 8)


def random_values(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


@pytest.fixture(scope="module")
def keys() -> np.ndarray:
    return np.unique(np.random.default_rng(1).integers(-(2**40), 2**40, 50_000))


@pytest.fixture(scope="module")
def tree(keys: np.ndarray) -> Tree:
    return Tree.build(MemoryNodes(), INT_40, keys, random_values(len(keys), 40))


def test_every_key_gives_its_own_value(tree: Tree, keys: np.ndarray) -> None:
    values = random_values(len(keys), 40)
    for row in range(0, len(keys), 997):
        assert tree.get(int(keys[row])) == values[row].tobytes()


def test_a_missing_key_gives_none_wherever_it_would_lie(tree: Tree, keys: np.ndarray) -> None:
    present = set(keys.tolist())
    for key in (-(2**63), int(keys[0]) - 1, int(keys[-1]) + 1, 2**63 - 1, 2**70, 12_345):
        assert key not in present
        assert tree.get(key) is None
        assert tree.position_of(key) is None


def test_many_keys_come_back_in_the_order_asked_with_repeats(tree: Tree, keys: np.ndarray) -> None:
    rows = np.random.default_rng(2).integers(0, len(keys), 500)
    found, values = tree.get_many(keys[rows])
    assert found.all()
    assert np.array_equal(values, random_values(len(keys), 40)[rows])


def test_many_keys_tell_which_are_missing(tree: Tree, keys: np.ndarray) -> None:
    wanted = np.array([2**50, int(keys[7]), -(2**50), int(keys[3])])
    found, values = tree.get_many(wanted)
    assert found.tolist() == [False, True, False, True]
    assert not values[0].any()
    assert tree.positions_of(wanted).tolist() == [-1, 7, -1, 3]


@pytest.mark.parametrize(
    "wanted", [[], [2**63 - 1], [2**63 - 1, 2**62], [-(2**63)]], ids=["none", "after", "both", "before"]
)
def test_many_keys_none_of_which_is_there(tree: Tree, keys: np.ndarray, wanted: list[int]) -> None:
    assert len(keys) > 10_000  # several levels
    found, values = tree.get_many(np.array(wanted, np.int64))
    assert found.tolist() == [False] * len(wanted)
    assert values.shape == (len(wanted), 40)
    assert tree.positions_of(np.array(wanted, np.int64)).tolist() == [-1] * len(wanted)


def test_positions_follow_numeric_order(tree: Tree, keys: np.ndarray) -> None:
    assert np.array_equal(tree.positions_of(keys[::-1]), np.arange(len(keys))[::-1])
    for position in (0, 1, 25_000, len(keys) - 1):
        assert tree.at(position)[0] == int(keys[position])
        assert tree.position_of(int(keys[position])) == position


def test_first_and_last_key_bound_the_tree(tree: Tree, keys: np.ndarray) -> None:
    assert (tree.first_key, tree.last_key) == (int(keys[0]), int(keys[-1]))
    assert tree.count == len(keys)


@pytest.mark.parametrize("position", [-1, 50_001, 10**12])
def test_a_position_out_of_range_is_refused(tree: Tree, position: int) -> None:
    with pytest.raises(InvalidInputError, match="position"):
        tree.at(position)


def test_str_keys_sort_by_code_point_and_not_by_utf16() -> None:
    texts = ["\U00010000", "\uffff", "\ud800", "z", "", "a b", "a/b", "é"]
    tree = Tree.build(MemoryNodes(), STR_8, texts, random_values(len(texts), 8))
    in_order = [tree.at(position)[0] for position in range(len(texts))]
    assert in_order == sorted(texts)
    assert in_order[-3:] == ["\ud800", "\uffff", "\U00010000"]
    assert tree.positions_of(texts).tolist() == [in_order.index(text) for text in texts]


def test_an_empty_tree_has_nothing_and_says_so() -> None:
    tree = Tree.empty(MemoryNodes(), INT_40)
    assert (tree.count, tree.first_key, tree.last_key, tree.get(0)) == (0, None, None, None)
    assert tree.positions_of([1, 2]).tolist() == [-1, -1]
    assert len(tree.directory()) == 0
    assert tree.directory().starts.tolist() == [0]


def test_a_look_up_reads_one_node_a_level(tree: Tree, keys: np.ndarray) -> None:
    store = tree.store
    counted = MemoryNodes()
    counted.objects = store._store.objects  # type: ignore[attr-defined]
    fresh = Tree.open(counted, tree.root)
    counted.reset_counts()
    fresh.get(int(keys[1234]))
    assert counted.gets <= 2
    fresh.get(int(keys[1234]))
    assert counted.gets <= 2, "a repeated look-up reads nothing"


def test_an_opened_tree_knows_its_format(tree: Tree) -> None:
    assert Tree.open(tree.store, tree.root) == tree


def test_the_directory_lists_every_leaf_without_reading_one(tree: Tree, keys: np.ndarray) -> None:
    directory = tree.directory()
    counts = [len(tree.read_leaf(digest.tobytes())) for digest in directory.digests]
    assert np.array_equal(np.cumsum([0, *counts]), directory.starts)
    assert np.array_equal(keys[directory.starts[1:] - 1], directory.last_keys)

    counted = MemoryNodes()
    counted.objects = tree.store._store.objects  # type: ignore[attr-defined]
    fresh = Tree.open(NodeCache(counted), tree.root)
    fresh.directory()
    assert counted.gets == 1


@pytest.mark.parametrize("key", [True, "1", 1.0, None])
def test_an_int_tree_refuses_other_keys(tree: Tree, key: object) -> None:
    with pytest.raises(InvalidInputError, match="int keys"):
        tree.get(key)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="int keys"):
        tree.get_many([key])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "batch",
    [
        np.array([True]),
        np.array([1.5]),
        np.array([2**63], np.uint64),
        np.zeros((2, 2), np.int64),
        [2**63],
        [1, True],
    ],
)
def test_an_int_tree_refuses_batches_that_are_not_int64(tree: Tree, batch: object) -> None:
    with pytest.raises(InvalidInputError, match="int keys"):
        tree.positions_of(batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["x" * 1025, "é" * 513, 1, b"x", None])
def test_a_str_tree_refuses_long_and_other_keys(key: object) -> None:
    tree = Tree.empty(MemoryNodes(), STR_8)
    with pytest.raises(InvalidInputError, match="str keys"):
        tree.edit([key], random_values(1, 8))  # type: ignore[list-item]


def test_a_str_tree_refuses_a_str_for_a_list_of_them() -> None:
    with pytest.raises(InvalidInputError, match="list of str"):
        Tree.build(MemoryNodes(), STR_8, "abc", random_values(3, 8))


@pytest.mark.parametrize(
    "values", [None, np.zeros((2, 39), np.uint8), np.zeros((1, 40), np.uint8), np.zeros((2, 40), np.int8)]
)
def test_values_of_another_shape_or_dtype_are_refused(values: np.ndarray | None) -> None:
    with pytest.raises(InvalidInputError, match="values"):
        Tree.build(MemoryNodes(), INT_40, [1, 2], values)


def test_a_value_width_out_of_range_is_refused() -> None:
    for width in (-1, 4097):
        with pytest.raises(InvalidInputError, match="value width"):
            TreeFormat(KeyType.INT, width)


def test_what_a_look_up_hands_out_never_aliases_the_tree(tree: Tree, keys: np.ndarray) -> None:
    _, values = tree.get_many(keys[:3])
    values[:] = 0
    assert tree.get(int(keys[0])) == random_values(len(keys), 40)[0].tobytes()


def test_building_does_not_hold_on_to_the_callers_arrays() -> None:
    mine = np.arange(5)
    values = random_values(5, 40)
    tree = Tree.build(MemoryNodes(), INT_40, mine, values)
    mine[:] = 9
    values[:] = 9
    assert tree.get(3) == random_values(5, 40)[3].tobytes()
