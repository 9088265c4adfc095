"""Three-way merge of trees: its laws, conflicts, and what it costs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import KeyType, NodeCache, Tree, TreeFormat, iter_range
from stockroom.trees.merge import KeyConflict, Resolution, merge_trees

WIDTH = 8
COUNT = 200_000


def leave(_: KeyConflict) -> None:
    return None


def as_dict(tree: Tree) -> dict[int | str, bytes]:
    return {
        key: value.tobytes() for keys, values in iter_range(tree) for key, value in zip(list(keys), values, strict=True)
    }


def build(store: MemoryNodes, content: dict, key_type: KeyType = KeyType.INT, width: int = WIDTH) -> Tree:
    values = np.frombuffer(b"".join(content.values()), np.uint8).reshape(len(content), width)
    return Tree.build(store, TreeFormat(key_type, width), list(content), values)


def fresh(tree: Tree, store: MemoryNodes) -> Tree:
    """The same tree with nothing decoded yet."""
    return Tree.open(NodeCache(store), tree.root)


def number(value: int) -> bytes:
    return value.to_bytes(WIDTH, "little")


def vary(rng: random.Random, content: dict, changes: int) -> dict:
    """Some keys set, changed and taken out."""
    varied = dict(content)
    for _ in range(changes):
        key = rng.choice(list(content)) if content and rng.random() < 0.7 else rng.randrange(5000)
        key = str(key) if content and isinstance(next(iter(content)), str) else key
        if rng.random() < 0.3:
            varied.pop(key, None)
        else:
            varied[key] = number(rng.randrange(4))
    return varied


def merge_plainly(base: dict, ours: dict, theirs: dict) -> tuple[dict, set]:
    """The textbook's three-way merge: what becomes of each key, and those in conflict, which stay as ours."""
    merged, conflicts = {}, set()
    for key in base.keys() | ours.keys() | theirs.keys():
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        value = t if o == b else o
        if o != b and t not in (b, o):
            conflicts.add(key)
        if value is not None:
            merged[key] = value
    return merged, conflicts


@pytest.fixture(params=[KeyType.INT, KeyType.STR])
def key_type(request: pytest.FixtureRequest) -> KeyType:
    return request.param


def start(rng: random.Random, key_type: KeyType, count: int = 3000) -> dict:
    keys = rng.sample(range(5000), count)
    return {(key if key_type is KeyType.INT else str(key)): number(rng.randrange(4)) for key in keys}


@pytest.mark.parametrize("seed", range(8))
def test_a_merge_is_the_textbooks(seed: int, key_type: KeyType) -> None:
    rng, store = random.Random(seed), MemoryNodes()
    base = start(rng, key_type, rng.choice([0, 1, 50, 3000]))
    ours, theirs = (vary(rng, base, rng.choice([0, 3, 200, 4000])) if base else dict(base) for _ in range(2))
    trees = [build(store, content, key_type) for content in (base, ours, theirs)]
    merged = merge_trees(*trees, leave)
    expected, conflicts = merge_plainly(base, ours, theirs)
    assert as_dict(merged.tree) == expected
    assert {conflict.key for conflict in merged.conflicts} == conflicts
    for conflict in merged.conflicts:
        assert (conflict.base, conflict.ours, conflict.theirs) == tuple(
            content.get(conflict.key) for content in (base, ours, theirs)
        )
    assert merged.tree.root == build(MemoryNodes(), expected, key_type).root


@pytest.mark.parametrize("kinds", [("put", "put"), ("put", "add"), ("add", "add"), ("any", "any"), ("tail", "tail")])
@pytest.mark.parametrize("count", [5, 60, 600])
def test_a_merge_of_tall_trees_is_the_textbooks(kinds: tuple[str, str], count: int) -> None:
    """Keys of 500 bytes make three levels of 2,000: some parts are taken whole, others are merged below."""
    rng, store = random.Random(count), MemoryNodes()
    base = {long_key(key): number(0) for key in rng.sample(range(20_000), 2000)}
    shared = vary_long(rng, base, kinds[1], 5)
    ours, theirs = (vary_long(rng, shared, kind, count) for kind in kinds)
    trees = [build(store, content, KeyType.STR) for content in (base, ours, theirs)]
    assert [tree.top.level for tree in trees] == [2, 2, 2]
    asked: list[int | str] = []

    def resolve(found: KeyConflict) -> Resolution | None:
        asked.append(found.key)
        return Resolution(None) if len(asked) % 2 else None

    merged = merge_trees(*trees, resolve)
    expected, conflicts = merge_plainly(base, ours, theirs)
    for key in asked[::2]:
        expected.pop(key, None)
    assert sorted(asked) == sorted(conflicts)  # each once
    assert {conflict.key for conflict in merged.conflicts} == set(asked[1::2])
    assert merged.tree.root == build(MemoryNodes(), expected, KeyType.STR).root


def long_key(key: int) -> str:
    return f"{key:06}" + "-" * 494


def vary_long(rng: random.Random, content: dict, kind: str, count: int) -> dict:
    """Some keys changed, added anywhere or behind all others, or taken out."""
    varied = dict(content)
    for _ in range(count):
        if kind == "put" or (kind == "any" and rng.random() < 0.5):
            key = rng.choice(list(content))
        else:
            key = long_key(rng.randrange(20_000, 21_000) if kind == "tail" else rng.randrange(20_000))
        if kind == "any" and rng.random() < 0.3:
            varied.pop(key, None)
        else:
            varied[key] = number(rng.randrange(1, 4))
    return varied


@pytest.mark.parametrize("seed", range(4))
def test_laws(seed: int, key_type: KeyType) -> None:
    rng, store = random.Random(seed), MemoryNodes()
    content = start(rng, key_type)
    x, y, z = (build(store, c, key_type) for c in (content, vary(rng, content, 100), vary(rng, content, 100)))
    assert merge_trees(x, x, x, leave).tree == x
    assert merge_trees(x, y, y, leave).tree == y
    assert merge_trees(x, y, x, leave).tree == y
    assert merge_trees(x, x, y, leave).tree == y
    one, other = merge_trees(x, y, z, leave), merge_trees(x, z, y, leave)
    swapped = {(c.key, c.base, c.theirs, c.ours) for c in other.conflicts}
    assert {(c.key, c.base, c.ours, c.theirs) for c in one.conflicts} == swapped
    ours = merge_trees(x, y, z, lambda found: Resolution(found.ours))
    theirs = merge_trees(x, z, y, lambda found: Resolution(found.theirs))
    assert ours.tree == theirs.tree
    assert ours.conflicts == theirs.conflicts == ()


def test_the_root_does_not_depend_on_the_order_of_edits() -> None:
    store = MemoryNodes()
    base = build(store, {key: number(key) for key in range(2000)})
    keys = list(range(0, 2000, 7))
    kept = {key: number(key) for key in range(2000) if key not in keys}
    expected = build(MemoryNodes(), kept | {key + step: number(9) for key in keys for step in (1, 3000)})
    for order in (keys, keys[::-1], random.Random(0).sample(keys, len(keys))):
        ours = theirs = base
        for key in order:
            values = np.frombuffer(number(9), np.uint8).reshape(1, WIDTH)
            ours, theirs = ours.edit([key + 1], values), theirs.edit([key + 3000], values, deletes=[key])
        assert merge_trees(base, ours, theirs, leave).tree.root == expected.root
        assert merge_trees(base, theirs, ours, leave).tree.root == expected.root


def test_what_is_decided_stands_and_the_rest_is_as_ours() -> None:
    store = MemoryNodes()
    base = build(store, {1: number(0), 2: number(0), 3: number(0), 4: number(0)})
    ours = build(store, {1: number(1), 2: number(1), 3: number(1)})
    theirs = build(store, {1: number(2), 2: number(2), 4: number(2)})
    decisions = {1: Resolution(number(2)), 2: Resolution(None), 4: Resolution(number(2))}
    merged = merge_trees(base, ours, theirs, lambda found: decisions.get(found.key))
    assert as_dict(merged.tree) == {1: number(2), 3: number(1), 4: number(2)}
    assert [conflict.key for conflict in merged.conflicts] == [3]


def test_disputed_keys_are_in_conflict_wherever_the_sides_differ() -> None:
    """Their value in the base counts for neither side: without the dispute 1 would be theirs, 2 ours, 3 gone."""
    store = MemoryNodes()
    base = build(store, {1: number(0), 2: number(0), 3: number(0), 4: number(0), 5: number(0)})
    ours = build(store, {1: number(0), 2: number(1), 4: number(7), 5: number(0)})
    theirs = build(store, {1: number(2), 2: number(0), 3: number(0), 4: number(7), 5: number(5)})
    merged = merge_trees(base, ours, theirs, leave, disputed=[1, 2, 3, 4, 99])
    assert {(c.key, c.base, c.ours, c.theirs) for c in merged.conflicts} == {
        (1, None, number(0), number(2)),
        (2, None, number(1), number(0)),
        (3, None, None, number(0)),
    }
    assert as_dict(merged.tree) == {1: number(0), 2: number(1), 4: number(7), 5: number(5)}
    unmoved = merge_trees(base, base, theirs, leave, disputed=[1])
    assert [conflict.key for conflict in unmoved.conflicts] == [1]


def test_values_of_no_bytes_are_merged_as_a_set() -> None:
    store = MemoryNodes()
    base, ours, theirs = (build(store, dict.fromkeys(keys, b""), width=0) for keys in ([1, 2, 3], [1, 2, 4], [2, 3, 5]))
    merged = merge_trees(base, ours, theirs, leave)
    assert set(as_dict(merged.tree)) == {2, 4, 5}
    assert merged.conflicts == ()


@pytest.fixture(scope="module")
def large(store: MemoryNodes) -> Tree:
    values = np.random.default_rng(0).integers(0, 256, (COUNT, 40), dtype=np.uint8)
    return Tree.build(store, TreeFormat(KeyType.INT, 40), np.arange(COUNT), values)


def change_some(tree: Tree, keys: np.ndarray, seed: int) -> Tree:
    return tree.edit(keys, np.random.default_rng(seed).integers(0, 256, (len(keys), 40), dtype=np.uint8))


def test_a_merge_reads_and_writes_nodes_in_proportion_to_the_changes(large: Tree, store: MemoryNodes) -> None:
    touched = []
    for count in (1, 10, 100):
        chosen = np.random.default_rng(count).choice(COUNT, 2 * count, replace=False)
        ours, theirs = change_some(large, chosen[:count], seed=1), change_some(large, chosen[count:], seed=2)
        three = [fresh(tree, store) for tree in (large, ours, theirs)]
        store.reset_counts()
        merged = merge_trees(*three, leave)
        touched.append(store.gets + store.puts)
        assert store.gets <= 3 * (3 + 2 * count)  # of each of three trees: the way down to each leaf with a change
        assert store.puts <= 3 + 2 * count
        assert merged.tree == change_some(ours, chosen[count:], seed=2)
    assert touched[2] <= 12 * touched[1]
    assert touched[1] <= 12 * touched[0]


def test_parts_that_one_side_changed_are_not_read(large: Tree, store: MemoryNodes) -> None:
    """Where the sides changed different leaves, or the same in the same way, only nodes above the leaves are read."""
    places = np.arange(0, COUNT, COUNT // 20)
    both = change_some(large, np.array([7777]), seed=3)  # the same change is none
    ours, theirs = change_some(both, places, seed=1), change_some(both, places + COUNT // 40, seed=2)
    above = {count_above_leaves(tree) for tree in (large, ours, theirs)}
    three = [fresh(tree, store) for tree in (large, ours, theirs)]
    store.reset_counts()
    merged = merge_trees(*three, leave)
    assert store.gets <= 3 * max(above)
    assert store.puts <= max(above)
    assert merged.tree == change_some(ours, places + COUNT // 40, seed=2)


def count_above_leaves(tree: Tree) -> int:
    """The number of nodes above the leaves."""
    count, nodes = 1, [tree.top]
    while nodes[0].level > 1:
        nodes = [tree.nodes.read_child(node, index) for node in nodes for index in range(len(node))]
        count += len(nodes)
    return count


def test_a_side_that_added_a_lot_in_one_place_leaves_the_rest_alone(large: Tree, store: MemoryNodes) -> None:
    ours = change_some(large, np.arange(COUNT, COUNT + 20_000), seed=3)
    theirs = change_some(large, np.array([5]), seed=4)
    three = [fresh(tree, store) for tree in (large, ours, theirs)]
    store.reset_counts()
    assert merge_trees(*three, leave).tree == change_some(ours, np.array([5]), seed=4)
    assert store.gets + store.puts <= 20


def test_where_the_merged_tree_is_cut_elsewhere_than_either_side_the_next_part_is_merged_along() -> None:
    """Both sides add keys in the last leaf below a node, and keep its end; with all of them it has another end."""
    rng, store, moved = random.Random(0), MemoryNodes(), 0
    content = {long_key(key): number(0) for key in range(0, 40_000, 20)}
    base = build(store, content, KeyType.STR)
    ends = [int(str(base.top.keys[index])[:6]) for index in range(len(base.top) - 1)]
    for _ in range(100):
        end = rng.choice(ends)
        some = rng.sample([key for key in range(end - 200, end) if long_key(key) not in content], 20)
        sides = [
            base.edit([long_key(key) for key in part], np.frombuffer(number(1) * 10, np.uint8).reshape(10, -1))
            for part in (some[:10], some[10:])
        ]
        merged = merge_trees(base, *sides, leave).tree
        added = {long_key(key): number(1) for key in some}
        assert merged.root == build(store, content | added, KeyType.STR).root
        ours, theirs, result = (long_key(end) in tree.directory().last_keys for tree in (*sides, merged))
        moved += ours and theirs and not result
    assert moved


def test_a_side_that_added_a_lot_where_the_other_changed_is_merged_key_by_key(large: Tree, store: MemoryNodes) -> None:
    ours = change_some(large, np.arange(COUNT, COUNT + 40_000), seed=3)
    theirs = change_some(large, np.array([COUNT - 1]), seed=4)
    three = [fresh(tree, store) for tree in (large, ours, theirs)]
    store.reset_counts()
    assert merge_trees(*three, leave).tree == change_some(ours, np.array([COUNT - 1]), seed=4)
    assert store.gets + store.puts <= 40


def test_a_side_that_changed_nothing_costs_nothing(large: Tree, store: MemoryNodes) -> None:
    other = change_some(large, np.arange(50), seed=5)
    store.reset_counts()
    assert merge_trees(large, large, other, leave).tree is other
    assert merge_trees(large, other, large, leave).tree is other
    assert store.gets + store.puts == 0
