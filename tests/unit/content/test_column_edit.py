"""The edits of a column are those of a dictionary, and many small ones go into its tree together."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.content import column_edit
from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import NodeCache, Tree, iter_range


def make_edit(nodes: MemoryNodes) -> ColumnEdit:
    cache = NodeCache(nodes)
    record = ColumnRecord("uint8", (8,), "int", "auto", bytes(32), {})
    return ColumnEdit(cache, record.replace_root(Tree.empty(cache, record.tree_format).root))


def entries(count: int, number: int) -> np.ndarray:
    return np.full((count, 8), number % 256, np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_an_edit_is_a_dictionary(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_edit, "_MAX_COPIED", 20)
    rng = random.Random(seed)
    edit = make_edit(MemoryNodes())
    expected: dict[int, int] = {}
    saved = edit.save(), dict(expected)
    for step in range(700):
        key = rng.randrange(-50, 300)
        match rng.choice(["append", "append", "append", "put", "delete", "many", "save", "restore", "look", "clear"]):
            case "append":
                count = rng.choice([0, 1, 1, 3, 25])
                first = max(expected, default=-1) + 1
                edit.append(range(first, first + count), entries(count, step))
                expected |= dict.fromkeys(range(first, first + count), step)
            case "put":
                edit.put(key, entries(1, step)[0].tobytes())
                expected[key] = step
            case "delete":
                gone = max(expected, default=key) if rng.random() < 0.5 else key
                edit.delete(gone)
                expected.pop(gone, None)
            case "many":
                edit.put_many([key, key + 400], entries(2, step))
                expected |= {key: step, key + 400: step}
            case "save":
                saved = edit.save(), dict(expected)
            case "restore":
                edit.restore(saved[0])
                expected = dict(saved[1])
            case "clear" if rng.random() < 0.1:
                edit.clear()
                expected = {}
            case "look":
                assert edit.tree.count == len(expected)
        assert edit.last_key == max(expected, default=None)
        value = edit.find(key)
        assert value == (entries(1, expected[key])[0].tobytes() if key in expected else None)
    found = {int(key): value[0] for keys, rows in iter_range(edit.tree) for key, value in zip(keys, rows, strict=True)}
    assert found == {key: step % 256 for key, step in expected.items()}


def test_appending_one_by_one_writes_few_nodes() -> None:
    nodes = MemoryNodes()
    edit = make_edit(nodes)
    nodes.reset_counts()
    for number in range(4000):
        assert edit.last_key == (number - 1 if number else None)
        edit.append(range(number, number + 1), entries(1, number))
    assert edit.tree.count == 4000
    assert nodes.puts < 60


@pytest.mark.parametrize("as_list", [False, True])
def test_extending_one_by_one_in_a_block_writes_few_objects(stock: StockRoom, as_list: bool) -> None:
    with stock.enable_write("Many") as writer:
        workspace = writer._pin.workspace
        assert workspace is not None
        column = writer.data.create("x", dtype="int64", shape=())
        for number in range(500):
            sample = np.array([number])
            assert column.extend(list(sample) if as_list else sample) == range(number, number + 1)
        objects = workspace.objects
    assert objects.written_count < 20
    assert stock.data["x"][:].tolist() == list(range(500))
