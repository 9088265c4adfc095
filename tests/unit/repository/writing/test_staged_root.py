"""Staged changes cost no node of the root tree until somebody reads it as a whole."""

from __future__ import annotations

import random

import pytest

from stockroom import InvalidInputError, StockRoom
from stockroom.content.snapshot import Snapshot
from stockroom.digest import ObjectDigest
from stockroom.repository.writing.staged_root import StagedRoot
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import NodeCache


def digest(number: int) -> ObjectDigest:
    return ObjectDigest(number.to_bytes(32, "big"))


def count_puts(changes: int) -> int:
    nodes = MemoryNodes()
    staged = StagedRoot(Snapshot.empty(NodeCache(nodes)))
    staged.apply()
    nodes.reset_counts()
    for number in range(changes):
        staged.change({f"experiment/v{number:05}": digest(number)})
        assert staged.find_digest(f"experiment/v{number:05}") == digest(number)
    assert nodes.puts == 0
    staged.apply()
    return nodes.puts


def test_many_changes_write_each_node_of_the_root_tree_once() -> None:
    assert count_puts(100) == 1
    assert count_puts(400) <= 4
    assert count_puts(4000) <= 30


@pytest.mark.parametrize("seed", range(3))
def test_a_staged_root_is_a_dictionary(seed: int) -> None:
    rng = random.Random(seed)
    staged = StagedRoot(Snapshot.empty(NodeCache(MemoryNodes())))
    expected: dict[str, ObjectDigest] = {}
    for step in range(600):
        path = f"{rng.choice(['data', 'model', 'mode'])}/{rng.randrange(40)}"
        if rng.random() < 0.4:
            staged.change({}, [path])
            expected.pop(path, None)
        else:
            staged.change({path: digest(step)})
            expected[path] = digest(step)
        if rng.random() < 0.2:
            staged.apply()
        shelf = rng.choice(["data", "model", "mode"])
        assert staged.count_names(shelf) == sum(path.startswith(f"{shelf}/") for path in expected)
        assert staged.find_digest(path) == expected.get(path)
    names = {f"{shelf}/{name}": found for shelf in ("data", "mode", "model") for name, found in
             staged.apply().iter_digests(shelf)}  # fmt: skip
    assert names == expected


def test_a_path_that_cannot_be_one_is_refused_at_once() -> None:
    staged = StagedRoot(Snapshot.empty(NodeCache(MemoryNodes())))
    with pytest.raises(InvalidInputError, match="1024 UTF-8 bytes"):
        staged.change({"experiment/" + "x" * 1100: digest(1)})
    assert staged.apply().root == Snapshot.empty(NodeCache(MemoryNodes())).root


@pytest.mark.parametrize("looks", [False, True])
def test_a_block_writes_one_object_a_value_and_few_nodes(stock: StockRoom, looks: bool) -> None:
    with stock.enable_write("Many") as writer:
        workspace = writer._pin.workspace
        assert workspace is not None
        for number in range(600):
            writer.experiment[f"v{number}"] = number
            if looks:
                assert f"v{number}" in writer.experiment
                assert f"w{number}" not in writer.experiment
                assert len(writer.experiment) == number + 1
                assert writer.experiment[f"v{number // 2}"] == number // 2
        objects = workspace.objects
    assert 600 < objects.written_count <= 600 + 10
    assert list(stock.experiment) == sorted(f"v{number}" for number in range(600))


def test_names_in_a_block_are_those_of_all_that_is_open_in_it(stock: StockRoom) -> None:
    with stock.enable_write("One") as writer:
        assert (len(writer.data), len(writer.experiment.metrics)) == (0, 0)
        writer.data["a"] = [1, 2]
        writer.data["b"] = [1, 2]
        writer.experiment.log({"loss": 1.0})
        assert "loss" in writer.experiment.metrics
        assert (len(writer.data), len(writer.experiment.metrics)) == (2, 1)
        del writer.data["a"]
        assert "a" not in writer.data
        assert (len(writer.data), list(writer.data)) == (1, ["b"])


def test_a_block_that_fails_leaves_no_name(stock: StockRoom) -> None:
    with pytest.raises(KeyError), stock.enable_write("Fails") as writer:
        write_and_fail(writer)
    assert len(stock.experiment) == 0
    assert "x" not in stock.experiment


def write_and_fail(writer: StockRoom) -> None:
    writer.experiment["x"] = 1
    assert len(writer.experiment) == 1
    raise KeyError
