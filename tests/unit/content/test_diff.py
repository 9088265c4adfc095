"""Differences between commits and the stage, by column; and what a snapshot of each holds."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.content.diff import ChangeCounts


@pytest.fixture
def changed(stock):
    """One commit, and on top of it, staged: a column added, one removed, one changed, one made anew, one as it was."""
    with stock.enable_write("first") as writer:
        writer.data["changed"] = np.arange(5)
        writer.data["removed"] = ["a", "b"]
        writer.data["anew"] = [1, 2, 3]
        writer.data["as-it-was"] = [1]
    with StockRoom(stock.path, enable_write=True) as writer:
        column = writer.data["changed"]
        column[1], column[7] = np.int64(100), np.int64(700)
        del column[4], column[0]
        column[0] = np.int64(0)  # as before
        writer.data["added"] = {"k": 1.5}
        del writer.data["removed"], writer.data["anew"]
        writer.data["anew"] = [1.5, 2.5]
    return stock


def test_a_difference_lists_what_differs_and_nothing_else(changed):
    diff = changed.diff()
    assert list(diff) == ["data/added", "data/anew", "data/changed", "data/removed"]
    kinds = {path: entry.kind for path, entry in diff.items()}
    assert kinds == {"data/added": "added", "data/anew": "schema", "data/changed": "changed", "data/removed": "removed"}
    entry = diff["data/changed"]
    assert (list(entry.added), list(entry.removed), list(entry.changed)) == ([7], [4], [1])
    assert list(entry.added) == [7]  # anew each time
    assert entry.counts == ChangeCounts(1, 1, 1)
    assert diff["data/added"].counts == ChangeCounts(1, 0, 0)
    assert diff["data/removed"].counts == ChangeCounts(0, 2, 0)
    assert diff["data/anew"].counts == ChangeCounts(2, 3, 0)
    assert diff["data/anew"].old.dtype == "int64"
    assert diff["data/anew"].new.dtype == "float64"
    assert "data/as-it-was" not in diff


def test_a_difference_turned_round_swaps_added_and_removed(changed):
    changed.reset()
    with changed.enable_write("second") as writer:
        writer.data["changed"].extend([1, 2])
        del writer.data["removed"]
    there, back = changed.diff("HEAD~1", "HEAD"), changed.diff("HEAD", "HEAD~1")
    assert list(there["data/changed"].added) == list(back["data/changed"].removed) == [5, 6]
    assert (there["data/removed"].kind, back["data/removed"].kind) == ("removed", "added")
    assert list(back["data/removed"].added) == [0, 1]
    assert dict(changed.diff("HEAD", "HEAD")) == {}


def test_a_change_of_attrs_alone_is_a_change_of_no_sample(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    with stock.enable_write("second") as writer:
        writer.data["x"].attrs = {"unit": "mm"}
    entry = stock.diff("HEAD~1", "HEAD")["data/x"]
    assert entry.kind == "changed"
    assert entry.counts == ChangeCounts(0, 0, 0)
    assert (entry.old.attrs, entry.new.attrs) == ({}, {"unit": "mm"})
    assert stock.data["x"].attrs == {"unit": "mm"}
    with StockRoom(stock.path, ref="HEAD~1") as old:
        assert old.data["x"].attrs == {}


def test_a_few_changes_in_many_samples_are_found(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = np.arange(100_000)
    with stock.enable_write("second") as writer:
        column = writer.data["x"]
        for key in (0, 50_000, 99_999):
            column[key] = np.int64(-1)
        del column[777]
    entry = stock.diff("HEAD~1", "HEAD")["data/x"]
    assert (list(entry.added), list(entry.removed), list(entry.changed)) == ([], [777], [0, 50_000, 99_999])


def test_the_paths_of_a_difference_are_known_without_reading_a_record(stock):
    with stock.enable_write("first") as writer:
        writer.experiment.update({f"v{number}": number for number in range(50)})
    with stock.enable_write("second") as writer:
        writer.experiment.update({f"v{number}": -number for number in range(1, 40)})
        del writer.experiment["v40"]
        writer.experiment["new"] = 1
    reads = []
    objects = stock._repository.objects
    get_object = objects.get_object
    objects.get_object = lambda digest: reads.append(digest) or get_object(digest)
    try:
        diff = stock.diff("HEAD~1", "HEAD")
        assert len(diff) == 41
        assert "experiment/v0" not in diff
        known = len(reads)
        assert known < 10
        assert diff["experiment/v40"].kind == "removed"
        assert len(reads) > known
    finally:
        del objects.get_object
