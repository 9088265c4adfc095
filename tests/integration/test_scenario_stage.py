"""The stage between processes, branches that go and come back, and making a repository where one is already."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tests.kit.programs import run_stock

from stockroom import (
    ConflictError,
    InvalidInputError,
    InvalidNameError,
    NothingToCommitError,
    RefNotFoundError,
    RepositoryNotFoundError,
    StockRoom,
    StockroomError,
)
from stockroom.repository.head import HeadFile

WRITE_AND_LEAVE = """
import os, sys
import numpy as np
from stockroom import StockRoom
stock = StockRoom(sys.argv[1], enable_write=True)
stock.data["x"][3] = np.full(100, 3)
stock.data["label"] = ["a", "b"]
stock.close()
os._exit(0)
"""


def write_in_another_process(folder):
    subprocess.run([sys.executable, "-c", WRITE_AND_LEAVE, str(folder)], check=True, timeout=60)


def snapshot_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock.mdb"}


@pytest.fixture
def staged(stock):
    """A repository with one commit, a branch `other`, and changes staged by a process that is gone."""
    with stock.enable_write("first") as writer:
        writer.data["x"] = np.zeros((3, 100), int)
    stock.create_branch("other")
    write_in_another_process(stock.path)
    return stock


def test_staged_changes_outlive_their_process(staged):
    answer = json.loads(run_stock(staged.path, "--json", "status").stdout)
    assert not answer["clean"]
    assert set(staged.status().changes) == {"data/x", "data/label"}
    change = staged.status().changes["data/x"]
    assert (list(change.added), list(change.removed), list(change.changed)) == ([3], [], [])
    with StockRoom(staged.path, enable_write=True) as writer:
        assert writer.data["x"][3].tolist() == [3] * 100
        assert list(writer.data["label"].values()) == ["a", "b"]


def test_staged_changes_go_along_to_a_branch_at_the_same_commit(staged):
    changes = staged.status().changes.keys()
    staged.checkout("other")
    assert (staged.branch, staged.status().changes.keys()) == ("other", changes)
    with StockRoom(staged.path, enable_write=True) as writer:
        writer.commit("on other")
    assert staged.branches["main"] != staged.branches["other"]


def test_checkout_is_refused_while_changes_are_staged_and_says_the_way_out(staged):
    with staged.session("other") as session:
        session.data["y"] = [1]
    head = (staged.path / "head.stock").read_bytes()
    with pytest.raises(ConflictError, match=r"commit.*reset"):
        staged.checkout("other")
    refused = run_stock(staged.path, "checkout", "other")
    assert refused.returncode == 14
    assert "commit" in refused.stderr
    assert "reset" in refused.stderr
    assert (staged.path / "head.stock").read_bytes() == head


def test_staged_changes_are_committed_once_from_the_command_line(staged):
    assert run_stock(staged.path, "commit", "-m", "from the shell").returncode == 0
    again = run_stock(staged.path, "commit", "-m", "again")
    assert again.returncode == 1
    assert "nothing to commit" in again.stderr
    staged.refresh()
    assert [commit.message for commit in staged.log()] == ["from the shell", "first"]
    assert staged.data["x"][3].tolist() == [3] * 100
    assert staged.status().clean


def test_reset_drops_the_stage(staged):
    staged.reset()
    assert staged.status().clean
    staged.checkout("other")
    with StockRoom(staged.path, enable_write=True) as writer:
        assert list(writer.data) == ["x"]
        assert len(writer.data["x"]) == 3
        with pytest.raises(NothingToCommitError):
            writer.commit("nothing")


def test_reset_inside_a_writer_drops_what_it_wrote_and_what_was_staged_before(staged):
    with StockRoom(staged.path, enable_write=True) as writer:
        column = writer.data["x"]
        column[4] = np.full(100, 4)
        writer.reset()
        assert writer.status().clean
        assert list(column) == [0, 1, 2]
    assert staged.status().clean


def test_a_stage_on_another_commit_is_refused_with_the_way_out(staged):
    head = (staged.path / "head.stock").read_text()
    (staged.path / "head.stock").write_text(
        "\n".join([head.split("\n")[0], "branch elsewhere", "commit -", ""])
    )  # as git may
    with pytest.raises(ConflictError, match="stock reset"):
        StockRoom(staged.path, enable_write=True)
    with StockRoom(staged.path) as reader:
        reader.reset()
    with StockRoom(staged.path, enable_write=True, timeout_s=0) as writer:
        assert list(writer.data) == []


# -- branches


def test_deleting_a_branch_that_is_not_there_names_those_near_it(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    stock.create_branch("feature")
    with pytest.raises(RefNotFoundError, match="feature") as caught:
        stock.delete_branch("featrue")
    assert "feature" in caught.value.near
    stock.create_tag("v1")
    with pytest.raises(RefNotFoundError, match="not a branch"):
        stock.delete_branch("v1")


def test_the_current_branch_cannot_be_deleted(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    for force in (False, True):
        with pytest.raises(ConflictError, match="checked out"):
            stock.delete_branch("main", force=force)


def test_an_unmerged_branch_is_deleted_by_force_only_and_undo_brings_it_back(stock):
    r"""
    first            main
         \
          second     dev, deleted, then undone
    """
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    stock.checkout("dev", create=True)
    with stock.enable_write("second") as writer:
        writer.data["x"].extend([2])
    second = stock.commit_id
    stock.checkout("main")
    with pytest.raises(ConflictError, match="force"):
        stock.delete_branch("dev")
    stock.delete_branch("dev", force=True)
    assert list(stock.branches) == ["main"]
    last = next(stock.operations())
    assert (last.kind, last.ref, last.old.hex(), last.new) == ("delete-branch", "branch/dev", second, None)
    undone = stock.undo()
    assert undone.ref == "branch/dev"
    assert stock.branches["dev"] == second
    stock.checkout("dev")
    assert stock.data["x"][:].tolist() == [1, 2]


def test_a_merged_branch_is_deleted_without_force(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    stock.create_branch("old")
    with stock.enable_write("second") as writer:
        writer.data["x"] = [2]
    stock.delete_branch("old")
    assert list(stock.branches) == ["main"]


def test_undo_takes_back_a_commit_and_head_follows(stock):
    """
    first---second     main; undone: first, then nothing at all

    anew               main, begun once more
    """
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    first = stock.commit_id
    with stock.enable_write("second") as writer:
        writer.data["x"] = [2]
    stock.undo()
    assert (stock.commit_id, stock.branches["main"], stock.data["x", 0]) == (first, first, 1)
    with StockRoom(stock.path) as reader:
        assert reader.commit_id == first
    stock.undo()
    assert (stock.commit_id, dict(stock.branches)) == (None, {})
    with stock.enable_write("anew") as writer:
        writer.data["y"] = [3]
    assert [commit.message for commit in stock.log()] == ["anew"]


def test_undo_of_the_checked_out_branch_is_refused_while_changes_are_staged(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    write = StockRoom(stock.path, enable_write=True)
    write.data["x"] = [2]
    with pytest.raises(ConflictError):
        write.undo()
    write.reset()
    write.undo()
    write.close()


def test_undoing_the_creation_of_the_branch_checked_out_is_refused(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    stock.checkout("dev", create=True)
    with pytest.raises(ConflictError, match="checked out"):
        stock.undo()
    assert (stock.branch, stock.data["x", 0]) == ("dev", 1)
    stock.checkout("main")
    stock.undo()
    assert list(stock.branches) == ["main"]


# -- names


GOOD_NAMES = ["a", "a/b", "a.b", "a@b", "@a", "a-b", "ä", "模型", "a{b", "lock", "a.lockx", "v1.0", "a/@/b", "%41"]
BAD_NAMES = [
    *("", "@", "HEAD", "-a", "a..b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "/a", "a/", "a//b", "a b", "a~b"),
    *("a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a@{b", "a\x7fb", "a\tb", "a\nb", "a\0b", "\ud800", "x" * 201),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_git_refuses_are_refused_for_columns_branches_and_tags(stock, name):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
        with pytest.raises(InvalidNameError, match="choose another"):
            writer.data[name] = [1]
        with pytest.raises(InvalidNameError, match="choose another"):
            writer.data.create(name, dtype="uint8")
    for make in (stock.create_branch, stock.create_tag, lambda bad: stock.checkout(bad, create=True)):
        with pytest.raises(InvalidNameError, match="choose another"):
            make(name)
    assert (list(stock.branches), list(stock.tags), list(stock.data)) == (["main"], [], ["x"])


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_git_takes_are_taken(stock, name):
    with stock.enable_write("first") as writer:
        writer.data[name] = [1]
    stock.create_tag(name)
    stock.checkout(name, create=True)
    stock.refresh()
    assert (stock.branch, list(stock.tags), list(stock.data)) == (name, [name], [name])


def test_names_that_differ_in_case_or_composition_only_are_refused(stock):
    with stock.enable_write("first") as writer:
        writer.data["Straße"] = [1]
        writer.data["é"] = [1]
        for name in ("straße", "STRASSE", "e\u0301"):
            with pytest.raises(InvalidNameError, match="differs"):
                writer.data[name] = [1]
        del writer.data["é"]
        writer.data["e\u0301"] = [1]
    with pytest.raises(InvalidNameError, match="differs"):
        stock.create_branch("Main")
    with pytest.raises(InvalidNameError, match="differs"):
        stock.checkout("MAIN", create=True)
    stock.create_tag("Main")  # tags and branches are kept apart
    with pytest.raises(InvalidNameError, match="differs"):
        stock.create_tag("main")


def test_a_name_taken_already_is_refused(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
        with pytest.raises(InvalidInputError, match="already exists"):
            writer.data.create("x", dtype="uint8")
    stock.create_tag("v1")
    for make, name in ((stock.create_branch, "main"), (stock.create_tag, "v1")):
        with pytest.raises(InvalidInputError, match="already exists"):
            make(name)
    with pytest.raises(InvalidInputError, match="already exists"):
        stock.checkout("main", create=True)


# -- making repositories


def test_a_second_init_says_so_and_changes_nothing(tmp_path):
    with StockRoom.init(tmp_path, name="Ada", email="ada@example.org") as stock:
        assert stock.is_new
        with stock.enable_write("first") as writer:
            writer.data["x"] = [1]
    before = snapshot_files(tmp_path)
    with StockRoom.init(tmp_path) as stock:
        assert not stock.is_new
        assert [(commit.message, commit.author) for commit in stock.log()] == [("first", "Ada")]
    again = run_stock(tmp_path, "init")
    assert again.returncode == 0
    assert "already" in again.stderr
    assert snapshot_files(tmp_path) == before


def test_init_with_a_head_file_but_no_data_says_what_to_run(tmp_path):
    with StockRoom.init(tmp_path / "whole") as stock, stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(tmp_path / "whole" / "head.stock", clone)
    for open_clone in (StockRoom.init, StockRoom):
        with pytest.raises(RepositoryNotFoundError, match="not cloned"):
            open_clone(clone)
    assert [path.name for path in clone.iterdir()] == ["head.stock"]
    assert run_stock(clone, "status").returncode == 10


def test_a_repository_is_found_from_a_folder_inside_it(stock, monkeypatch):
    inside = stock.path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with StockRoom() as found:
        assert found.path == stock.path
    with pytest.raises(RepositoryNotFoundError, match="stock init"):
        StockRoom("/")


def commit_in_a_block(stock):
    with stock.enable_write("second"):
        stock.data["x"][0] = 7


def commit_with_a_writer(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"][0] = 7
        writer.commit("second")


@pytest.mark.parametrize("commit", [commit_in_a_block, commit_with_a_writer])
def test_a_commit_whose_head_file_cannot_be_replaced_has_landed_and_leaves_no_stage(stock, monkeypatch, commit):
    with stock.enable_write("first"):
        stock.data["x"] = np.arange(3)

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self.path))

    with monkeypatch.context() as patch:
        patch.setattr(HeadFile, "complete", refuse)
        with pytest.raises(StockroomError, match="nothing is lost, and the next writer brings it up to date"):
            commit(stock)

    with StockRoom(stock.path) as reader:
        assert [commit.message for commit in reader.log()] == ["second", "first"]
        assert reader.data["x"][:].tolist() == [7, 1, 2]
        assert reader.status().clean
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"][1] = 8
        writer.commit("third")
