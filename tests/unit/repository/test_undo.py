"""Undo and redo: what they take back, what they leave alone, and that they never stick."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
import pytest
from tests.kit.gitting import commit_data, git, make_project

from stockroom import ConflictError, NotFoundError, StockRoom
from stockroom.refs import Ref, RefChange, RefMove
from stockroom.repository.upkeep.gc import apply_gc, plan_gc

NOW = timedelta(0)


@pytest.fixture
def two(stock):
    """first---second    main, with column `x`"""
    for value in (1, 2):
        with stock.enable_write(("first", "second")[value - 1]):
            stock.data["x"] = [value]
    return stock


def stage(stock, value=7):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["staged"] = np.full((10, 100), value)


def read_staged(stock):
    """Return what is staged, or None."""
    with StockRoom(stock.path, enable_write=True) as writer:
        return int(writer.data["staged", 0][0]) if "staged" in writer.data else None


def list_kinds(stock, n):
    return [operation.kind for _, operation in zip(range(n), stock.operations(), strict=False)]


# -- the stage


def test_a_stage_that_was_reset_is_had_back_and_dropped_again(two):
    stage(two)
    two.reset()
    assert (two.status().clean, list_kinds(two, 1)) == (True, ["reset"])
    assert two.undo().ref == "stage/work"
    assert (read_staged(two), two.branches["main"]) == (7, two.commit_id)
    assert two.redo().kind == "reset"
    assert two.status().clean
    with pytest.raises(NotFoundError, match="nothing to redo"):
        two.redo()


def test_a_writer_gets_back_what_it_had_not_flushed(two):
    with StockRoom(two.path, enable_write=True) as writer:
        writer.data["staged"] = np.full(1000, 5)
        writer.experiment["note"] = "kept"
        writer.reset()
        assert "staged" not in writer.data
        writer.undo()
        assert (writer.data["staged", 0], writer.experiment["note"]) == (5, "kept")
        writer.data["staged"][1] = 6
        writer.commit("both")
    two.refresh()
    assert two.data["staged"][:2].tolist() == [5, 6]


def test_a_stage_reset_for_good_is_not_in_the_log(two):
    stage(two)
    two.reset(undoable=False)
    assert two.status().clean
    assert two.undo().note == "second"


def test_a_hard_reset_is_taken_back_with_the_staged_changes(two):
    second = two.commit_id
    stage(two)
    two.reset_to("HEAD~1")
    first = two.commit_id
    assert two.status().clean
    assert two.undo().kind == "reset"
    assert (two.commit_id, two.branches["main"], read_staged(two)) == (second, second, 7)
    two.redo()
    assert (two.commit_id, two.branches["main"], two.status().clean) == (first, first, True)


def test_an_aborted_merge_is_had_back_with_its_open_conflicts(two):
    two.create_branch("dev", at="HEAD~1")
    with two.session("dev") as session:
        session.data["x"] = [3]
    two.merge("dev", commit=False)
    two.abort_merge()
    assert two.find_merge() is None
    two.undo()
    assert [conflict.path for conflict in two.find_merge().conflicts] == ["data/x"]
    two.resolve("data/x", 0, choice="theirs")
    two.continue_merge()
    assert (len(next(two.log()).parents), two.data["x", 0]) == (2, 3)


def test_staged_changes_that_the_log_has_keep_nothing_older_from_being_undone(two):
    """Without this, a reset and its undo would take turns forever."""
    second = two.commit_id
    stage(two)
    with pytest.raises(ConflictError, match="stock reset"):
        two.undo()
    two.reset()
    assert [two.undo().kind, two.undo().note] == ["reset", "second"]
    assert (two.data["x", 0], two.status().clean) == (1, True)
    two.redo()
    assert (two.commit_id, read_staged(two)) == (second, 7)
    two.redo()
    assert (two.commit_id, two.status().clean) == (second, True)


def test_a_stage_goes_back_behind_the_branch_that_sessions_moved(two):
    base = two.commit_id
    stage(two)
    with two.session(message="beside") as session:
        session.data["s"] = [1]
    two.reset()
    two.refresh()
    assert two.commit_id == two.branches["main"] != base
    two.undo()  # the session's commit is older
    assert (two.commit_id, read_staged(two)) == (base, 7)
    with StockRoom(two.path, enable_write=True) as writer:
        writer.commit("on top")
    assert [commit.message for commit in two.log("main")][:2] == ["on top", "beside"]


def test_a_stage_of_another_branch_is_restored_with_its_base(two):
    base = two.commit_id
    two.create_branch("old", at="HEAD~1")
    stage(two)
    two.reset()
    two.checkout("old")
    two.undo()
    status = two.status()
    assert (status.staged_on, status.clean) == (base, False)
    with pytest.raises(ConflictError, match=base), two.enable_write():
        pass
    two.checkout("main")
    assert read_staged(two) == 7


def test_a_writer_refuses_a_stage_that_it_cannot_continue_from(two):
    two.create_branch("old", at="HEAD~1")
    stage(two)
    two.reset()
    two.checkout("old")
    with StockRoom(two.path, enable_write=True) as writer:
        with pytest.raises(ConflictError, match="check out that commit"):
            writer.undo()
        writer.checkout("main")
        writer.undo()
        assert writer.data["staged", 0][0] == 7


# -- refs


def test_new_work_clears_redo_and_stays_after_the_undone_work_in_the_log(two):
    undone = two.commit_id
    two.undo()
    with two.enable_write("third"):
        two.data["x"] = [3]
    with pytest.raises(NotFoundError, match="nothing to redo"):
        two.redo()
    assert list_kinds(two, 3) == ["commit", "undo", "commit"]
    assert next(operation for operation in two.operations() if operation.note == "second").new.hex() == undone


def test_a_change_of_several_refs_is_taken_back_whole_and_head_follows_to_the_other_name(two):
    tip = bytes.fromhex(two.commit_id)
    main, trunk = Ref("branch", "main"), Ref("branch", "trunk")
    moves = (RefMove(ref=main, old=tip, new=None), RefMove(ref=trunk, old=None, new=tip))
    two._repository.refs.apply(RefChange(kind="rename", moves=moves))
    two.checkout("trunk")
    two.undo()
    assert (dict(two.branches), two.branch) == ({"main": two.commit_id}, "main")
    two.redo()
    assert (dict(two.branches), two.branch) == ({"trunk": two.commit_id}, "trunk")
    assert {operation.time_ns for operation in list(two.operations())[:2]} == {next(two.operations()).time_ns}


def test_a_writer_keeps_what_it_has_not_flushed_when_its_branch_gets_back_its_name(two):
    tip = bytes.fromhex(two.commit_id)
    main, trunk = Ref("branch", "main"), Ref("branch", "trunk")
    moves = (RefMove(ref=main, old=tip, new=None), RefMove(ref=trunk, old=None, new=tip))
    two._repository.refs.apply(RefChange(kind="rename", moves=moves))
    two.checkout("trunk")
    with StockRoom(two.path, enable_write=True) as writer:
        writer.data["staged"] = np.full((10, 100), 8)
        writer.undo()
        assert (writer.branch, writer.data["staged", 0][0]) == ("main", 8)
        writer.commit("after all")
    assert two.branches.keys() == {"main"}
    two.refresh()
    assert two.data["staged", 0][0] == 8


def test_changes_at_one_moment_are_told_apart(two, monkeypatch):
    at = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: at)
    two.create_tag("a")
    two.create_tag("b")
    two.create_tag("c")
    two.undo()
    assert list(two.tags) == ["a", "b"]


def test_redo_deletes_no_branch_that_is_checked_out(two):
    two.create_branch("dev")
    two.delete_branch("dev")
    two.undo()
    two.checkout("dev")
    with pytest.raises(ConflictError, match="checked out"):
        two.redo()
    two.checkout("main")
    two.redo()
    assert list(two.branches) == ["main"]


def test_redo_with_changes_staged_since_leaves_them_behind_the_branch(two):
    second = two.commit_id
    two.undo()
    base = two.commit_id
    stage(two)
    two.redo()
    assert (two.branches["main"], two.commit_id, read_staged(two)) == (second, base, 7)
    assert two.position().is_behind


def test_nothing_is_undone_right_after_a_clone_nor_by_a_fetch(two, tmp_path):
    two.add_remote("origin", str(tmp_path / "remote"))
    two.create_tag("v1")
    two.push(tags=True)
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone") as clone:
        before = (dict(clone.branches), dict(clone.tags), clone.commit_id)
        for take_back in (clone.undo, clone.redo):
            with pytest.raises(NotFoundError, match="nothing to"):
                take_back()
        assert (dict(clone.branches), dict(clone.tags), clone.commit_id) == before
        with clone.enable_write("third"):
            clone.data["x"] = [3]
        clone.undo()
        with two.enable_write("elsewhere"):
            two.data["y"] = [1]
        two.push()
        clone.fetch()
        assert clone.redo().note == "third"


def test_what_git_moved_since_is_skipped(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    commit_data(project, 2, "two")
    git(project, "reset", "-q", "--hard", "HEAD~1")
    with StockRoom(project) as handle:
        with handle.enable_write():
            pass
        skipped = []
        handle.undo(on_skip=lambda operation, why: skipped.append((operation.kind, why)))
    assert skipped == [("commit", "branch/main has moved since")]


def test_the_stage_of_another_work_tree_is_left_to_it(tmp_path):
    project = make_project(tmp_path / "project")
    commit_data(project, 1, "one")
    git(project, "worktree", "add", "-q", "-b", "side", tmp_path / "linked")
    with StockRoom(tmp_path / "linked") as linked, StockRoom(project) as main:
        stage(linked)
        linked.reset()
        assert main.undo().kind == "commit"
        main.redo()
        assert linked.undo().ref == "stage/work@linked"
        assert read_staged(linked) == 7


# -- gc


def test_gc_keeps_a_dropped_stage_for_two_weeks_and_undo_skips_it_afterwards(two):
    stage(two)
    two.reset()
    assert (two.gc().packs, two.verify().ok) == (0, True)
    two.undo()
    assert read_staged(two) == 7
    two.redo()
    later = time.time_ns() + timedelta(weeks=3) // timedelta(microseconds=1) * 1000
    apply_gc(plan_gc(two._repository, now_ns=later))
    assert two.verify().ok
    skipped = []
    assert two.undo(on_skip=lambda operation, why: skipped.append((operation.kind, why))).note == "second"
    assert skipped == [("reset", "gc has deleted what it needs")]


def test_the_bytes_of_a_dropped_stage_go_when_no_grace_is_given(two):
    stage(two)
    two.reset()
    assert two.gc(grace=NOW).packs == 1
    assert two.gc(grace=NOW).objects == 0
    assert two.verify().ok


def test_a_damaged_dropped_stage_keeps_neither_reset_nor_gc_from_working(two):
    stage(two)
    root = two._repository.refs.get_stage().root
    two._repository.env.update(lambda txn: txn.delete("objects", root))
    two.reset()
    assert two.gc().commits == 0
    stage(two)
    root = two._repository.refs.get_stage().root
    two.reset()
    two._repository.env.update(lambda txn: txn.delete("objects", root))
    assert two.gc().commits == 0
    assert two.verify().ok


def test_when_nothing_can_be_undone_any_more_the_error_says_why(stock):
    with stock.session("side", message="side") as session:
        session.data["x"] = np.arange(1000)
    stock.delete_branch("side", force=True)
    stock.gc(grace=NOW)
    with pytest.raises(NotFoundError, match=r"operation 2 \(delete-branch branch/side\).*gc has deleted"):
        stock.undo()
    with stock.enable_write("next"):
        stock.data["x"] = [1]
    assert stock.undo().note == "next"


def test_an_operation_shows_its_commits_as_users_know_them(two):
    operation = next(two.operations())
    assert f"new='{two.commit_id}'" in repr(operation)
    assert "kind='commit', ref='branch/main'" in repr(operation)


def test_a_soft_reset_is_taken_back_and_done_again(two):
    second = two.commit_id
    stage(two)
    two.reset_to("HEAD~1", keep_stage=True)
    first = two.commit_id
    assert (sorted(two.status().changes), read_staged(two)) == (["data/staged", "data/x"], 7)
    two.undo()
    assert (two.commit_id, two.branches["main"], sorted(two.status().changes)) == (second, second, ["data/staged"])
    two.redo()
    assert (two.commit_id, two.branches["main"], read_staged(two)) == (first, first, 7)
    assert sorted(two.status().changes) == ["data/staged", "data/x"]
