"""Stashes, renames, removals, blame and amended commits: the laws that hold beyond what git's own words show."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.kit.gitting import commit_data, data_files, git, make_project, run_stock

from stockroom import (
    ConflictError,
    InvalidInputError,
    InvalidNameError,
    MergeConflictError,
    NotFoundError,
    RefChangedError,
    RefNotFoundError,
    StockRoom,
)
from stockroom.cli import main
from stockroom.refs.changes import rename_branch
from stockroom.repository.head import Head

NO_GRACE = timedelta(0)


@pytest.fixture
def stock(tmp_path: Path) -> StockRoom:
    """A repository with one commit: labels 0 to 9, each its key, a model, a value and a metric."""
    handle = StockRoom.init(tmp_path / "here", name="Ada", email="ada@example.org")
    with handle.enable_write("first") as writer:
        writer.data["label"] = np.arange(10)
        writer.model["net"] = {"a": np.zeros(3), "b": {"c": np.ones(3)}}
        writer.experiment["lr"] = 0.1
        for step in range(3):
            writer.experiment.log({"loss": 1.0 / (step + 1)}, step)
    return handle


def stage(stock: StockRoom, key: int, value: int) -> None:
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][key] = value


def commit(stock: StockRoom, key: int, value: int, message: str = "more") -> str:
    with stock.enable_write(message) as writer:
        writer.data["label"][key] = value
    assert stock.commit_id is not None
    return stock.commit_id


def staged_labels(stock: StockRoom) -> list[int]:
    with StockRoom(stock.path, enable_write=True) as writer:
        return [int(value) for value in writer.data["label"].values()]


# -- stash


def test_a_stash_comes_back_onto_a_head_that_moved_by_key(stock: StockRoom) -> None:
    stage(stock, 3, 33)
    stock.stash()
    commit(stock, 4, 44)
    stock.pop_stash()
    assert staged_labels(stock)[2:6] == [2, 33, 44, 5]
    assert stock.stashes == ()


def test_a_stash_is_merged_into_what_is_staged(stock: StockRoom) -> None:
    stage(stock, 3, 33)
    stock.stash("three")
    stage(stock, 4, 44)
    assert stock.apply_stash("stash@{0}").message == "On main: three"
    assert staged_labels(stock)[2:6] == [2, 33, 44, 5]
    assert len(stock.stashes) == 1


def test_a_stash_in_conflict_is_kept_and_changes_nothing_until_it_is_decided(stock: StockRoom) -> None:
    stage(stock, 3, 33)
    stock.stash()
    commit(stock, 3, 34)
    stage(stock, 5, 55)
    with pytest.raises(MergeConflictError, match=r"stash: 1 conflict: data/label, 3 .*The stash is kept") as raised:
        stock.pop_stash()
    assert len(raised.value.conflicts) == 1
    assert (len(stock.stashes), staged_labels(stock)[3:6]) == (1, [34, 4, 55])
    assert main(["-C", str(stock.path), "stash", "pop"]) == 14
    stock.pop_stash(strategy="theirs")
    assert (stock.stashes, staged_labels(stock)[3:6]) == ((), [33, 4, 55])


def test_a_stash_of_some_paths_leaves_the_rest_staged(stock: StockRoom) -> None:
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][3], writer.data["label"][4] = 33, 44
        writer.experiment["lr"] = 0.2
    stock.stash(paths=["data/label/3", "experiment"])
    assert (staged_labels(stock)[3:5], dict(stock.status().changes)["data/label"].counts.changed) == ([3, 44], 1)
    stock.pop_stash()
    assert staged_labels(stock)[3:5] == [33, 44]
    assert set(stock.status().changes) == {"data/label", "experiment/lr"}


def test_gc_keeps_a_stash_until_it_is_dropped_and_no_clone_takes_it(stock: StockRoom, tmp_path: Path) -> None:
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["big"] = np.random.default_rng(0).random((50, 1000))
    kept = stock.stash()
    assert kept is not None
    commit(stock, 1, 11)
    stock.gc(grace=NO_GRACE)
    assert not stock.verify().damage
    stock.add_remote("origin", str(tmp_path / "remote"))
    stock.push()
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone") as clone:
        assert clone.stashes == ()
        with pytest.raises(RefNotFoundError):
            next(clone.log(kept.id))
    with StockRoom(stock.path, ref="stash@{0}") as reader:
        assert reader.data["big"].shape == (1000,)
    before = sum(map(len, (content for _, _, content in data_files(stock.path).values())))
    stock.drop_stash()
    stock.gc(grace=NO_GRACE)
    stock.gc(grace=NO_GRACE)
    after = sum(map(len, (content for _, _, content in data_files(stock.path).values())))
    assert after < before - 300_000
    with pytest.raises(RefNotFoundError, match="nothing is stashed"):
        stock.pop_stash()


def test_nothing_is_stashed_while_a_merge_is_unfinished(stock: StockRoom) -> None:
    stock.create_branch("side")
    commit(stock, 1, 11)
    stock.checkout("side")
    commit(stock, 2, 22)
    stock.merge("main", commit=False)
    with pytest.raises(ConflictError, match="merge is in progress"):
        stock.stash()


# -- rm, mv and reset by path


def test_a_rename_writes_no_sample_and_keeps_every_digest(stock: StockRoom) -> None:
    before, packs = stock.data["label"].digest(3), data_files(stock.path)
    assert stock.mv("data/label", "data/train/label") == (("data/label", "data/train/label"),)
    stock.mv("model/net", "model/old")
    stock.mv("data/train/label/3", "data/train/label/33")
    assert data_files(stock.path) == packs
    with StockRoom(stock.path, enable_write=True) as writer:
        assert writer.data["train/label"].digest(33) == before
        assert 3 not in writer.data["train/label"]
        assert list(writer.model) == ["old"]
        writer.commit("renamed")
    stock.refresh()
    stock.mv("data/train", "data/test")
    assert list(stock.status().changes) == ["data/test/label", "data/train/label"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("data/nope", "data/x", NotFoundError),
        ("data/label", "model/label", InvalidInputError),
        ("data/label", "data/bad..name", InvalidNameError),
        ("data/label/3", "data/label/4", InvalidInputError),
        ("data/label/3", "data/label/x", InvalidInputError),
        ("data/label/3", "metric/loss/9", InvalidInputError),
        ("model/net/a", "model/net/z", InvalidInputError),
        ("experiment/lr", "experiment/lr", InvalidInputError),
    ],
)
def test_a_rename_that_cannot_be_is_refused_and_stages_nothing(
    stock: StockRoom, old: str, new: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        stock.mv(old, new)
    assert stock.status().clean


def test_removals_by_key_and_by_folder_come_back_by_path(stock: StockRoom) -> None:
    with pytest.raises(InvalidInputError, match="whose keys can be changed one by one"):
        stock.rm("model/net/a")
    assert stock.rm("data/label/3", "metric/loss/1", "model", recursive=True) == (
        "data/label/3",
        "metric/loss/1",
        "model/net",
    )
    assert staged_labels(stock) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(NotFoundError, match=r"data/labels.*data/label"):
        stock.rm("data/labels")
    stock.reset("data/label/3", "metric")
    assert list(stock.status().changes) == ["model/net"]
    stock.reset("model/net")
    assert stock.status().clean


def test_a_writer_sees_what_it_removes_and_renames_at_once(stock: StockRoom) -> None:
    with stock.enable_write("both") as writer:
        writer.data["label"][3] = 33
        writer.mv("data/label", "data/l")
        writer.rm("data/l/4", force=True)
        assert (int(writer.data["l"][3]), 4 in writer.data["l"], "label" in writer.data) == (33, False, False)
        writer.experiment.log({"loss": 0.1}, 3)
        writer.reset("model")
    assert set(stock.changes()) == {"data/label", "data/l", "metric/loss"}


# -- blame and the history of paths


def test_blame_follows_each_key_through_merges_as_its_definition_says(stock: StockRoom) -> None:
    """Commits on three branches that merge one another, at random."""
    dice = random.Random(7)
    for name in ("one", "two"):
        stock.create_branch(name)
    for number in range(24):
        stock.checkout(dice.choice(["main", "one", "two"]))
        if number % 3 == 2:
            stock.merge(dice.choice(["main", "one", "two"]), strategy=dice.choice(["ours", "theirs"]))
        else:
            commit(stock, dice.randrange(10), 100 + number, f"commit {number}")
    records = {one.id: one for one in stock.log(every_ref=True)}
    labels = {}
    for commit_id in records:
        with StockRoom(stock.path, ref=commit_id) as reader:
            labels[commit_id] = [int(value) for value in reader.data["label"].values()]

    def trace(commit_id: str, key: int) -> str:
        for parent in records[commit_id].parents:
            if labels[parent][key] == labels[commit_id][key]:
                return trace(parent, key)
        return commit_id

    for branch, tip in stock.branches.items():
        found = stock.blame("data/label", branch)
        assert [(line.key, line.commit.id) for line in found] == [(key, trace(tip, key)) for key in range(10)]
        assert [line.commit.id for line in stock.blame("data/label/3", branch)] == [trace(tip, 3)]


def test_blame_names_leaves_points_and_values(stock: StockRoom) -> None:
    first = stock.commit_id
    with stock.enable_write("second") as writer:
        writer.model["net"] = {"a": np.zeros(3), "b": {"c": np.full(3, 2.0)}}
        writer.experiment.log({"loss": 0.1}, 3)
    second = stock.commit_id
    lines = {(line.path, line.key): line.commit.id for path in ("model", "metric") for line in stock.blame(path)}
    assert lines == {
        ("model/net", "a"): first,
        ("model/net", "b/c"): second,
        **{("metric/loss", step): first for step in range(3)},
        ("metric/loss", 3): second,
    }
    assert [(line.key, line.commit.id) for line in stock.blame("model/net/b")] == [("b/c", second)]
    assert [(line.key, line.commit.id) for line in stock.blame("experiment/lr")] == [(None, first)]
    assert len(stock.blame("data/label", limit=3)) == 3
    with pytest.raises(NotFoundError, match="nothing at"):
        stock.blame("data/label/99")


def test_a_log_of_paths_and_a_diff_of_paths_name_only_what_touched_them(stock: StockRoom) -> None:
    commit(stock, 3, 33, "three")
    with stock.enable_write("leaf") as writer:
        writer.model["net"] = {"a": np.ones(3), "b": {"c": np.ones(3)}}
    for paths, expected in (
        (["data/label/3"], ["three", "first"]),
        (["data/label/4"], ["first"]),
        (["model/net/a"], ["leaf", "first"]),
        (["model/net/b"], ["first"]),
        (["data", "model"], ["leaf", "three", "first"]),
        (["data/nope"], []),
    ):
        assert [one.message for one in stock.log(paths=paths)] == expected, paths
    assert list(stock.diff("HEAD~2", "HEAD", paths=["data"])) == ["data/label"]
    assert list(stock.diff("HEAD~2", "HEAD", paths=["data/label/3"])["data/label"].changed) == [3]
    assert list(stock.diff("HEAD~2", "HEAD", paths=["data/label/4", "model/net/b"])) == []


# -- checkout -, branch -m and commit --amend


def test_gc_keeps_the_detached_commit_that_a_dash_goes_back_to(stock: StockRoom) -> None:
    lost = commit(stock, 1, 11)
    stock.checkout(lost)
    stock.create_branch("main", at="HEAD~1", force=True)
    stock.checkout("main")
    stock.gc(grace=NO_GRACE)
    stock.checkout("-")
    assert (stock.commit_id, stock.branch) == (lost, None)


def test_a_rename_that_a_kill_leaves_half_done_is_completed_by_the_next_process(stock: StockRoom) -> None:
    stage(stock, 3, 33)
    repository, head = stock._repository, stock._repository.read_head()
    assert head.commit is not None
    repository.paths.head.prepare(Head("trunk", head.commit))
    repository.refs.apply(rename_branch("main", "trunk", at=head.commit, replaced=None))
    with StockRoom(stock.path) as other:
        assert (other.branch, dict(other.branches)) == ("trunk", {"trunk": head.commit.hex()})
        assert staged_labels(other)[3] == 33
        assert other.undo().kind == "rename"
        assert (other.branch, list(other.branches)) == ("main", ["main"])


def test_undo_takes_back_a_rename_and_an_amended_commit_and_goes_on_before_them(stock: StockRoom) -> None:
    second = commit(stock, 1, 11, "second")
    with StockRoom(stock.path, enable_write=True) as writer:
        amended = writer.amend("amended", author=("Bob", "bob@example.org"), run=7)
    stock.rename_branch("main", "trunk")
    log = list(StockRoom(stock.path).log())
    assert [(one.id, one.author, one.metadata) for one in log[:1]] == [(amended, "Bob", {"run": 7})]
    assert log[0].parents == (log[1].id,)
    for branch, commit_id in (("main", amended), ("main", second), ("main", log[1].id)):
        stock.undo()
        with StockRoom(stock.path) as reader:
            assert (reader.branch, reader.commit_id) == (branch, commit_id)


def test_a_commit_that_is_not_the_last_of_its_branch_is_not_amended(stock: StockRoom) -> None:
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][1] = 11
        with stock.session() as session:
            session.data["label"][2] = 22
        with pytest.raises(RefChangedError, match="has new commits"):
            writer.amend("mine")
        assert int(writer.data["label"][1]) == 11
    assert next(stock.log("main")).message != "mine"


# -- beside git


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = make_project(tmp_path / "project")
    commit_data(folder, 1, "one")
    commit_data(folder, 2, "two")
    return folder


def test_an_amended_commit_moves_head_stock_and_records_git_anew(project: Path) -> None:
    old = (project / "head.stock").read_text()
    with StockRoom(project, enable_write=True) as writer:
        writer.data["x"][0] = np.full(100, 7)
        new = writer.amend()
    assert (project / "head.stock").read_text() == old.replace(old.split()[-1], new)
    with StockRoom(project) as reader:
        head = next(reader.log())
        assert (head.message, head.metadata["git_commit"]) == ("two", git(project, "rev-parse", "HEAD"))
        assert (reader.branch, reader.branches["main"]) == ("main", new)
    git(project, "checkout", "-q", "--", "head.stock")
    with StockRoom(project) as reader:
        assert int(reader.data["x"][0][0]) == 2


def test_in_the_tie_git_renames_and_switches_branches(project: Path) -> None:
    with StockRoom(project) as stock:
        for refused, words in (
            (lambda: stock.rename_branch("main", "trunk"), "git branch -m trunk"),
            (lambda: stock.checkout("-"), "git switch -"),
        ):
            with pytest.raises(ConflictError, match=words):
                refused()


def test_a_head_that_git_left_in_conflict_is_a_conflict_with_the_way_out(project: Path) -> None:
    git(project, "checkout", "-q", "-b", "side", "HEAD~1")
    theirs = commit_data(project, 3, "three")
    git(project, "checkout", "-q", "main")
    merged = run_stock(project, "status")
    assert merged.returncode == 0
    with pytest.raises(AssertionError):
        git(project, "merge", "-q", "side")
    assert "<<<<<<<" in (project / "head.stock").read_text()
    for words in (["status"], ["commit", "-m", "x"], ["log"], ["git", "status"]):
        refused = run_stock(project, *words)
        assert refused.returncode == 14, (words, refused.stderr)
        (line,) = refused.stderr.splitlines()
        for part in ("git left a conflict", "git checkout --ours -- head.stock", f"stock merge {theirs}"):
            assert part in line
    git(project, "checkout", "--ours", "--", "head.stock")
    assert run_stock(project, "merge", theirs, "-s", "theirs").returncode == 0
    git(project, "add", "head.stock")
    git(project, "commit", "-q", "--no-edit")
    with StockRoom(project) as stock:
        assert (int(stock.data["x"][0][0]), list(stock.verify().damage)) == (3, [])
