"""Reading a tree in key order."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from stockroom.errors import InvalidInputError
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, Tree, TreeFormat, iter_positions, iter_range

COUNT = 30_000


def key_values(keys: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(keys, "<i8").view(np.uint8).reshape(-1, 8)


@pytest.fixture(scope="module")
def tree() -> Tree:
    keys = np.arange(COUNT) * 2
    return Tree.build(MemoryNodes(), TreeFormat(KeyType.INT, 8), keys, key_values(keys))


def collect(batches: object) -> list[int]:
    keys: list[int] = []
    for batch, values in batches:  # type: ignore[attr-defined]
        assert len(batch)
        assert np.array_equal(key_values(batch), values)
        keys.extend(batch.tolist())
    return keys


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (None, None),
        (-10, 10**9),
        (0, 0),
        (5, 6),
        (5, 7),
        (10_001, 40_000),
        (2 * COUNT, None),
        (None, -1),
        (9, 3),
        (2 * COUNT - 2, None),
    ],
)
def test_a_key_range_gives_its_keys_in_order(tree: Tree, start: int | None, stop: int | None) -> None:
    low = -1 if start is None else start
    high = 2 * COUNT if stop is None else stop
    assert collect(iter_range(tree, start, stop)) == [k for k in range(0, 2 * COUNT, 2) if low <= k < high]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, None), (0, 0), (17, 18), (1000, 25_000), (COUNT - 1, None), (COUNT, None), (7, 3), (-5, 10**9)],
)
def test_a_position_range_gives_its_keys_in_order(tree: Tree, start: int, stop: int | None) -> None:
    expected = list(range(0, 2 * COUNT, 2))[max(start, 0) : stop]
    assert collect(iter_positions(tree, start, stop)) == expected


def test_reading_is_lazy(tree: Tree) -> None:
    counted = MemoryNodes()
    counted.objects = tree.store._store.objects  # type: ignore[attr-defined]
    fresh = Tree.open(counted, tree.root)
    list(islice(iter_range(fresh), 2))
    assert counted.gets <= 4


def test_an_empty_tree_gives_no_batches() -> None:
    tree = Tree.empty(MemoryNodes(), TreeFormat(KeyType.STR, 8))
    assert list(iter_range(tree)) == []
    assert list(iter_range(tree, "a", "b")) == []
    assert list(iter_positions(tree)) == []


def test_str_ranges_follow_code_points() -> None:
    keys = [chr(point) * 250 for point in (*range(40, 200), 0xD800, 0xE000, 0x1F600)]
    tree = Tree.build(MemoryNodes(), TreeFormat(KeyType.STR, 0), keys)
    got = [key for batch, _ in iter_range(tree, "a", "\ue000") for key in batch]
    assert got == [key for key in sorted(keys) if "a" <= key < "\ue000"]


def test_a_bound_of_another_type_is_refused(tree: Tree) -> None:
    with pytest.raises(InvalidInputError):
        list(iter_range(tree, "a"))
