"""Shallow and single-branch clones: they follow what they were told to, become deeper or shorter, and stay sound."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from stockroom import InvalidInputError, RefNotFoundError, StockRoom


@pytest.fixture
def source(tmp_path: Path) -> StockRoom:
    """A history with a merge, pushed.

    A - B - C ----- M - D main
         \\         /
          S1 - S2 - side        old -> A
    """
    stock = StockRoom.init(tmp_path / "source")
    stock.add_remote("origin", str(tmp_path / "remote"))
    commit(stock, "A", "B")
    stock.create_branch("old", at="HEAD~1")
    stock.checkout("side", create=True)
    commit(stock, "S1", "S2", column="side")
    stock.checkout("main")
    commit(stock, "C")
    stock.merge("side", message="M")
    commit(stock, "D")
    stock.push(all_branches=True)
    return stock


def commit(stock: StockRoom, *messages: str, column: str = "main") -> None:
    for message in messages:
        with stock.enable_write(message):
            stock.data[column] = np.frombuffer(message.encode(), np.uint8)


def list_messages(stock: StockRoom, ref: str = "HEAD") -> set[str]:
    return {commit.message for commit in stock.log(ref)}


def test_a_shallow_clone_becomes_deeper_shorter_and_whole(source: StockRoom, tmp_path: Path) -> None:
    with closing(source), StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", depth=2) as clone:
        for options, expected in [
            ({}, {"D", "M"}),
            ({"deepen": 1}, {"D", "M", "C", "S2"}),
            ({"depth": 4}, {"D", "M", "C", "S2", "B", "S1"}),
            ({"depth": 1}, {"D"}),
            ({"deepen": 100}, {"D", "M", "C", "S2", "B", "S1", "A"}),
            ({"depth": 3}, {"D", "M", "C", "S2"}),
            ({"unshallow": True}, {"D", "M", "C", "S2", "B", "S1", "A"}),
        ]:
            report = clone.fetch(**options)  # type: ignore[arg-type]
            assert list_messages(clone) == expected, options
            assert clone.verify().ok
            assert report.shallow is None or bool(report.shallow) == ("A" not in expected)
        assert clone.fetch().bundles == 0
        commit(clone, "E")
        clone.push()
        with pytest.raises(InvalidInputError, match="exclude"):
            clone.fetch(depth=1, deepen=1)


def test_a_fetch_that_deepens_brings_what_is_new_too(source: StockRoom, tmp_path: Path) -> None:
    with closing(source), StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", depth=1) as clone:
        for number, options in enumerate(({"deepen": 1}, {"unshallow": True}, {"depth": 2})):
            commit(source, f"New {number}")
            source.push()
            clone.fetch(**options)  # type: ignore[arg-type]
            assert clone.remote_branches["origin/main"] == source.commit_id
            assert clone.verify().ok
        assert list_messages(clone, "origin/main") == {"New 2", "New 1"}


def test_commits_that_gc_removed_come_back_when_the_history_becomes_deeper(source: StockRoom, tmp_path: Path) -> None:
    with closing(source), StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", depth=1) as clone:
        clone.gc(grace=timedelta(0))
        clone.gc(grace=timedelta(0))
        clone.fetch(unshallow=True)
        assert len(list_messages(clone)) == 7
        assert clone.verify().ok
        clone.checkout("HEAD~4")
        assert clone.data["main"].take([0]).tolist() == [ord("A")]


def test_a_shallow_clone_of_all_branches_sees_later_ones_too(source: StockRoom, tmp_path: Path) -> None:
    url = str(tmp_path / "remote")
    with closing(source), StockRoom.clone(url, tmp_path / "clone", depth=1, single_branch=False) as clone:
        assert set(clone.remote_branches) == {"origin/main", "origin/side", "origin/old"}
        assert list_messages(clone, "origin/side") == {"S2"}
        source.create_branch("from-old", at="main~3")
        source.push(ref="from-old")
        clone.fetch()
        assert clone.remote_branches["origin/from-old"] == source.branches["from-old"]
        assert clone.verify().ok


def test_a_single_branch_clone_follows_one_branch_and_fetches_others_by_name(source: StockRoom, tmp_path: Path) -> None:
    url = str(tmp_path / "remote")
    with closing(source), StockRoom.clone(url, tmp_path / "clone", ref="side", single_branch=True) as clone:
        assert set(clone.remote_branches) == {"origin/side"}
        clone.gc(grace=timedelta(0))
        commit(source, "E")
        source.push(all_branches=True)
        assert clone.fetch().moved == ()
        clone.set_remote("origin", url)
        assert clone.fetch().moved == ()
        clone.fetch(ref=["main", "old"])
        assert set(clone.remote_branches) == {"origin/side", "origin/main", "origin/old"}
        assert len(list_messages(clone, "origin/main")) == 8
        assert clone.pull(branch="main").outcome == "fast-forward"
        with pytest.raises(RefNotFoundError, match="no branch or tag 'mian'; did you mean 'main'"):
            clone.fetch(ref="mian")
        assert clone.verify().ok
