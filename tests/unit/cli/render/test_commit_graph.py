"""The graph in front of commits, for histories drawn beside their expectation."""

from __future__ import annotations

import pytest

from stockroom.cli.render.commit_graph import CommitGraph

HISTORIES = {
    "a line": (
        [("c", "b"), ("b", "a"), ("a", "")],
        ["* c", "* b", "* a"],
    ),
    "a merge": (
        [("m", "xy"), ("y", "a"), ("x", "a"), ("a", "")],
        ["* m", "|\\", "| * y", "* | x", "|/", "* a"],
    ),
    "a merge within a branch": (
        [("m", "xy"), ("y", "pq"), ("q", "a"), ("p", "a"), ("x", "a"), ("a", "")],
        [
            "* m",
            "|\\",
            "| * y",
            "| |\\",
            "| | * q",
            "| * | p",
            "| |/",
            "* | x",
            "|/",
            "* a",
        ],
    ),
    "criss-cross": (
        [("n", "yx"), ("m", "xy"), ("y", "a"), ("x", "a"), ("a", "")],
        ["* n", "|\\", "| | * m", "| | |\\", "|_|_|/", "| |/", "* | y", "| * x", "|/", "* a"],
    ),
    "a lane crossed": (
        [("d", "xz"), ("z", "y"), ("x", "y"), ("y", "")],
        ["* d", "|\\", "| * z", "* | x", "|/", "* y"],
    ),
    "two roots": (
        [("m", "xy"), ("y", ""), ("x", "")],
        ["* m", "|\\", "| * y", "* x"],
    ),
    "a root to the left of others": (
        [("m", "xy"), ("x", ""), ("y", "a"), ("a", "")],
        ["* m", "|\\", "* | x", " /", "* y", "* a"],
    ),
    "three parents": (
        [("m", "xyz"), ("z", "a"), ("y", "a"), ("x", "a"), ("a", "")],
        ["* m", "|\\", "| |\\", "| | * z", "| * | y", "| |/", "* | x", "|/", "* a"],
    ),
}


def draw(history):
    graph = CommitGraph()
    return [line for commit, parents in history for line in graph.draw(commit, list(parents), [commit])]


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_drawn_as_expected(name):
    history, expected = HISTORIES[name]
    assert draw(history) == expected
