"""A tree's root depends on its content alone; a tree behaves as a sorted dict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import Key, KeyType, Tree, TreeFormat, diff_trees, iter_positions, iter_range

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec=None, categories=None), max_size=200)
QUICK = settings(max_examples=50, deadline=None)


@dataclass(frozen=True)
class Universe:
    """Keys to choose from by number, and a format that makes trees of them several levels deep."""

    format: TreeFormat
    keys: list[Key]


def ints(special: list[int]) -> Universe:
    spread = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 150).tolist()
    return Universe(TreeFormat(KeyType.INT, 1500), sorted({*special, *range(-80, 80), *spread}))


def strs(special: list[str]) -> Universe:
    long = {f"{'long/' * 180}{number}" for number in range(260)}
    return Universe(TreeFormat(KeyType.STR, 900), sorted({*special, *long}))


UNIVERSES = st.one_of(
    st.lists(INT64, min_size=10, max_size=40).map(ints), st.lists(TEXT, min_size=5, max_size=30).map(strs)
)
CHOICES = st.sets(st.integers(0, 270), max_size=270)
STEPS = st.lists(st.tuples(CHOICES, CHOICES, st.integers(0, 3)), max_size=4)


def value_of(universe: Universe, number: int, version: int) -> np.ndarray:
    width = universe.format.value_width
    return np.full(width, (number * 7 + version) % 256, np.uint8)


def build(universe: Universe, content: dict[int, int]) -> Tree:
    numbers = list(content)
    values = [value_of(universe, number, content[number]) for number in numbers]
    rows = np.array(values, np.uint8).reshape(len(numbers), universe.format.value_width)
    return Tree.build(MemoryNodes(), universe.format, [universe.keys[n] for n in numbers], rows)


def put(tree: Tree, universe: Universe, numbers: list[int], version: int, deletes: list[int]) -> Tree:
    rows = np.array([value_of(universe, n, version) for n in numbers], np.uint8)
    return tree.edit(
        [universe.keys[n] for n in numbers],
        rows.reshape(len(numbers), universe.format.value_width),
        deletes=[universe.keys[n] for n in deletes],
    )


def within(universe: Universe, chosen: set[int]) -> list[int]:
    return [number for number in chosen if number < len(universe.keys)]


@QUICK
@given(UNIVERSES, CHOICES, STEPS)
def test_any_edits_give_the_root_of_a_tree_built_anew(
    universe: Universe, start: set[int], steps: list[tuple[set[int], set[int], int]]
) -> None:
    content = dict.fromkeys(within(universe, start), 0)
    tree = build(universe, content)
    for puts, deletes, version in steps:
        written = within(universe, puts)
        gone = within(universe, deletes - puts)
        tree = put(tree, universe, written, version, gone)
        content |= dict.fromkeys(written, version)
        content = {number: held for number, held in content.items() if number not in gone}
        assert tree.root == build(universe, content).root
    assert tree.count == len(content)


@QUICK
@given(UNIVERSES, st.permutations(range(170)), st.lists(st.integers(1, 169), max_size=6))
def test_order_and_grouping_of_edits_do_not_matter(universe: Universe, order: list[int], cuts: list[int]) -> None:
    order = within(universe, set(order)) if len(universe.keys) < 170 else order
    tree = Tree.empty(MemoryNodes(), universe.format)
    bounds = [0, *sorted(set(cuts)), len(order)]
    for start, stop in pairwise(bounds):
        tree = put(tree, universe, order[start:stop], 0, [])
    assert tree.root == build(universe, dict.fromkeys(sorted(order), 0)).root


@QUICK
@given(UNIVERSES, CHOICES)
def test_a_tree_reads_as_a_sorted_dict(universe: Universe, chosen: set[int]) -> None:
    numbers = sorted(within(universe, chosen))
    tree = build(universe, dict.fromkeys(numbers, 1))
    keys = [universe.keys[number] for number in numbers]
    assert [key for batch, _ in iter_range(tree) for key in batch] == keys
    assert tree.positions_of(universe.keys).tolist() == [
        keys.index(key) if key in keys else -1 for key in universe.keys
    ]
    for position, number in enumerate(numbers[:20]):
        assert tree.at(position) == (keys[position], value_of(universe, number, 1).tobytes())
        assert tree.get(keys[position]) == value_of(universe, number, 1).tobytes()
        assert tree.position_of(keys[position]) == position


@QUICK
@given(UNIVERSES, CHOICES, st.integers(0, 270), st.integers(0, 270))
def test_ranges_read_as_slices_of_a_sorted_list(universe: Universe, chosen: set[int], start: int, stop: int) -> None:
    numbers = sorted(within(universe, chosen))
    tree = build(universe, dict.fromkeys(numbers, 1))
    keys = [universe.keys[number] for number in numbers]
    assert [key for batch, _ in iter_positions(tree, start, stop) for key in batch] == keys[start:stop]
    low, high = (universe.keys[min(bound, len(universe.keys) - 1)] for bound in (start, stop))
    expected = [k for n, k in zip(numbers, keys, strict=True) if start <= n < stop]
    if max(start, stop) < len(universe.keys):
        assert [key for batch, _ in iter_range(tree, low, high) for key in batch] == expected


CONTENTS = st.dictionaries(st.integers(0, 270), st.integers(0, 1), max_size=270)


@QUICK
@given(UNIVERSES, CONTENTS, CONTENTS)
def test_a_diff_of_trees_is_the_diff_of_dicts(universe: Universe, old: dict[int, int], new: dict[int, int]) -> None:
    old = {number: old[number] for number in within(universe, set(old))}
    new = {number: new[number] for number in within(universe, set(new))}
    added: list[Key] = []
    removed: list[Key] = []
    changed: list[Key] = []
    for batch in diff_trees(build(universe, old), build(universe, new)):
        added.extend(batch.added_keys)
        removed.extend(batch.removed_keys)
        changed.extend(batch.changed_keys)
        for key, before, after in zip(batch.changed_keys, batch.old_values, batch.new_values, strict=True):
            number = universe.keys.index(key)
            assert np.array_equal(before, value_of(universe, number, old[number]))
            assert np.array_equal(after, value_of(universe, number, new[number]))
    keys = universe.keys
    assert added == [keys[n] for n in sorted(new.keys() - old.keys())]
    assert removed == [keys[n] for n in sorted(old.keys() - new.keys())]
    assert changed == [keys[n] for n in sorted(old.keys() & new.keys()) if old[n] != new[n]]
