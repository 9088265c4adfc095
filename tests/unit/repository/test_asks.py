"""How often one command asks: git, the database, and for the id of a commit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.kit.gitting import commit_data, git, make_project

from stockroom import StockRoom
from stockroom.kv import Environment
from stockroom.refs import commit
from stockroom.repository import repository

MERGE_TRANSACTIONS = 17


@pytest.fixture
def asked(monkeypatch):
    """Counts of "transaction", "git" and "id"; everything that is asked is asked all the same."""
    counts, depth = Counter(), Counter()

    def count_outermost(name):
        ask = getattr(Environment, name)

        def run(env, fn):
            counts["transaction"] += not depth[env.path]
            depth[env.path] += 1
            try:
                return ask(env, fn)
            finally:
                depth[env.path] -= 1

        monkeypatch.setattr(Environment, name, run)

    def count(module, name, what):
        ask = getattr(module, name)

        def run(*args):
            counts[what] += 1
            return ask(*args)

        monkeypatch.setattr(module, name, run)

    count_outermost("view")
    count_outermost("update")
    count(repository, "find_tie", "git")
    count(commit, "compute_digest", "id")
    return counts


@pytest.fixture
def forked(stock):
    """A---C main; B, on dev, follows A too. Both changed one column, at different keys."""
    with stock.enable_write("A"):
        stock.data["x"] = np.zeros((10, 4))
    stock.create_branch("dev")
    for branch, key in (("dev", 3), ("main", 5)):
        stock.checkout(branch)
        with stock.enable_write(branch):
            stock.data["x"][key] = np.ones(4)
    return stock


def test_a_commit_computes_its_id_once(stock, asked):
    with stock.enable_write():
        stock.data["x"] = np.zeros((10, 4))
        asked.clear()
        stock.commit("one")
    assert asked["id"] == 1


def test_a_session_s_commit_computes_its_id_once(stock, asked):
    with stock.session("main") as session:
        session.data["x"] = np.zeros((10, 4))
        asked.clear()
        session.commit("one")
        assert asked["id"] == 1


def test_a_merge_asks_once_for_git_and_its_id_and_reads_in_few_transactions(forked, asked):
    with StockRoom(forked.path) as fresh:
        asked.clear()
        assert fresh.merge("dev").outcome == "merged"
        assert (asked["git"], asked["id"]) == (1, 1)
        assert asked["transaction"] <= MERGE_TRANSACTIONS
        assert fresh.data["x"][[3, 5]].tolist() == np.ones((2, 4)).tolist()


def test_a_merge_by_fast_forward_asks_for_git_once(forked, asked):
    forked.checkout("dev")
    forked.merge("main")
    forked.checkout("main")
    asked.clear()
    assert forked.merge("dev").outcome == "fast-forward"
    assert asked["git"] == 1


def test_in_the_tie_a_merge_asks_for_git_at_its_begin_before_it_looks_and_before_it_commits(tmp_path, asked):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    git(project, "switch", "-q", "-c", "dev")
    commit_data(project, 2, "two")
    git(project, "switch", "-q", "main")
    with StockRoom(project) as stock, stock.enable_write("other"):
        stock.data["y"] = np.zeros(3)
    with StockRoom(project) as stock:
        asked.clear()
        assert stock.merge("dev").outcome == "merged"
        assert asked["git"] == 3


def test_a_writer_notices_that_git_has_switched_since_it_began(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    git(project, "switch", "-q", "-c", "dev")
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 8)
        git(project, "switch", "-q", "main")
        made = writer.commit("on main")
        assert writer.branches["main"] == made
        assert "dev" not in writer.branches or writer.branches["dev"] != made
