"""What differs between two versions of a model, leaf by leaf, without reading any leaf's bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stockroom import StockRoom

ONES, TWOS = torch.ones(50), torch.full((50,), 2.0)
FLAT = torch.arange(24.0)

CHANGES: dict[str, tuple[Any, Any, tuple[list[str], list[str], list[str]]]] = {
    "nothing but order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ([], [], [])),
    "nothing but containers": ({"a": [1]}, {"a": (1,)}, ([], [], [])),
    "a value": ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ([], [], ["b"])),
    "a tensor": ({"a": ONES, "b": TWOS}, {"a": ONES, "b": TWOS + 1}, ([], [], ["b"])),
    "a dtype": ({"a": ONES}, {"a": ONES.view(torch.int32)}, ([], [], ["a"])),
    "a shape": ({"a": ONES}, {"a": ONES.view(5, 10)}, ([], [], ["a"])),
    "a library": ({"a": ONES}, {"a": ONES.numpy()}, ([], [], ["a"])),
    "None and a value": ({"a": None, "b": 1}, {"a": 1, "b": None}, (["a"], ["b"], [])),
    "names": ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "z": 1}}, (["a/z"], ["a/x"], [])),
    "all of it": (ONES, TWOS, ([], [], ["m"])),
    "a leaf for a dict": (ONES, {"a": ONES}, (["a"], ["m"], [])),
    "both of a tie": ({"a": ONES, "b": ONES}, {"a": TWOS, "b": TWOS}, ([], [], ["a", "b"])),
    "tied to the same value": ({"a": ONES, "b": ONES.clone()}, {"a": ONES, "b": ONES}, ([], [], [])),
    "tied to another value": ({"a": ONES, "b": TWOS}, {"a": ONES, "b": ONES}, ([], [], ["b"])),
    "tied no longer": ({"a": ONES, "b": ONES}, {"a": ONES, "b": TWOS}, ([], [], ["b"])),
    "tied the other way round": ({"a": ONES, "b": ONES}, {"b": ONES, "a": ONES}, ([], [], [])),
    "a tie to another": ({"a": ONES, "b": TWOS, "c": ONES}, {"a": ONES, "b": TWOS, "c": TWOS}, ([], [], ["c"])),
    "memory that is shared": (
        {"a": FLAT[:8], "b": FLAT[4:]},
        {"a": (FLAT + 1)[:8], "b": FLAT[4:]},
        ([], [], ["a", "b"]),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_leaves_that_differ_are_listed_by_path(stock: StockRoom, what: str, large: bool) -> None:
    old, new, expected = CHANGES[what]
    if large:  # beside something that fills several nodes of the tree
        rest = {f"{number:05}": np.arange(number, number + 20) for number in range(2000)}
        old, new = ({**rest, "x": old}, {**rest, "x": new})
        expected = tuple([f"x/{path}" if path != "m" else "x" for path in paths] for paths in expected)  # type: ignore[assignment]
    with stock.enable_write():
        stock.model["m"] = old
    with stock.enable_write():
        stock.model["m"] = new
    diff = stock.diff("HEAD~1", "HEAD")
    (entry,) = diff.values()
    assert entry.kind == "changed"
    assert (list(entry.added), list(entry.removed), list(entry.changed)) == expected
    assert (entry.counts.added, entry.counts.removed, entry.counts.changed) == tuple(map(len, expected))
    back = stock.diff("HEAD", "HEAD~1")["model/m"]
    assert (list(back.removed), list(back.added), list(back.changed)) == expected


def test_a_model_that_came_and_went_is_all_its_leaves(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.data["label"] = [1]
    with stock.enable_write():
        stock.model["m"] = {"a": ONES, "b": [1, None]}
    assert list(stock.diff("HEAD~1", "HEAD")["model/m"].added) == ["a", "b/0"]
    assert list(stock.diff("HEAD", "HEAD~1")["model/m"].removed) == ["a", "b/0"]
    with stock.enable_write():
        stock.model["n"] = {"a": ONES}
        assert {name: entry.kind for name, entry in stock.status().changes.items()} == {"model/n": "added"}
