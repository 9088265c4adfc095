"""Where one is: status and log tell it as git does, and a block that cannot end well fails when it begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit.programs import run_stock

from stockroom import (
    InvalidInputError,
    InvalidNameError,
    MalformedRecordError,
    MergeConflictError,
    RefChangedError,
    StockRoom,
)
from stockroom.kv import WriteTxn
from stockroom.repository.head import Head


def commit(stock: StockRoom, column: str, value: int, branch: str | None = None) -> None:
    with stock.session(branch, message=f"{column} {value}") as session:
        session.data[column] = [value]


def stage(stock: StockRoom, column: str, value: int) -> None:
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data[column] = [value]


def ask(stock: StockRoom, *words: str) -> str:
    found = run_stock(stock.path, *words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def read_json(stock: StockRoom, *words: str) -> dict[str, object]:
    return dict(json.loads(ask(stock, "--json", *words)))


@pytest.fixture
def one(stock: StockRoom) -> StockRoom:
    with stock.enable_write("first"):
        stock.data["x"] = [1]
    return stock


# -- a stage that somebody forgot


def test_a_forgotten_stage_hides_nothing_that_sessions_commit(one: StockRoom) -> None:
    """
    first              HEAD, with a stage
         \\
          a---b---c    main
    """
    stage(one, "y", 7)
    for value, column in enumerate("abc"):
        commit(one, column, value)
    told = ask(one, "status")
    assert "main is 3 commits ahead of what is checked out" in told
    assert "data/y" in told
    assert read_json(one, "status")["branch_position"] == {"gone": False, "ahead": 3, "behind": 0, "whole": True}
    assert [line.split(" ", 1)[1] for line in ask(one, "log", "--oneline").splitlines()] == [
        "c 2",
        "b 1",
        "a 0",
        "first",
    ]
    assert len(ask(one, "log", "--oneline", "HEAD").splitlines()) == 1
    with StockRoom(one.path, ref="main") as reader:
        assert sorted(reader.data) == ["a", "b", "c", "x"]
    with StockRoom(one.path, enable_write=True) as writer:
        writer.commit("y at last")
    assert "ahead of what" not in ask(one, "status")
    assert ask(one, "log", "--oneline").splitlines()[0].endswith("y at last")


def test_a_branch_that_moved_elsewhere_or_is_gone_is_told(one: StockRoom) -> None:
    for value in (2, 3):
        with one.enable_write(f"{value}"):
            one.data["x"] = [value]
    head = one._repository.paths.head
    tip = bytes.fromhex(one.commit_id or "")
    one.reset_to("HEAD~1")
    head.write(Head("main", tip))
    assert "main is 1 commit behind what is checked out" in ask(one, "status")
    commit(one, "side", 1)
    head.write(Head("main", tip))
    assert "main and what is checked out have diverged, and have 1 and 1 different commits each" in ask(one, "status")
    one.refresh()
    one.checkout(one.branches["main"])
    one.delete_branch("main", force=True)
    head.write(Head("main", tip))
    assert "main does not exist any more" in ask(one, "status")
    assert read_json(one, "status")["branch_position"]["gone"] is True


def test_changes_that_wait_in_sessions_are_told(one: StockRoom) -> None:
    with one.session(name="night") as session:
        session.data["z"] = [1]
        session.flush()
        session.close()
    assert "Changes are also staged in sessions: night" in ask(one, "status")
    assert read_json(one, "status")["sessions"] == ["night"]


# -- the branch of a remote


def test_the_position_relative_to_the_remotes_branch_is_told_as_git_does(one: StockRoom, tmp_path: Path) -> None:
    """
    first---here          main
         \\
          there---more    origin/main
    """
    assert ask(one, "status", "-sb") == "## main\n"
    one.add_remote("origin", str(tmp_path / "remote"))
    one.push()
    assert "Your branch is up to date with 'origin/main'" in ask(one, "status")
    assert ask(one, "status", "-sb") == "## main...origin/main\n"
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone") as clone:
        for column in ("there", "more"):
            commit(clone, column, 1)
        clone.push()
    one.fetch()
    assert "Your branch is behind 'origin/main' by 2 commits, and can be fast-forwarded" in ask(one, "status")
    commit(one, "here", 1)
    assert "Your branch and 'origin/main' have diverged, and have 1 and 2 different commits each" in ask(one, "status")
    assert ask(one, "status", "-sb") == "## main...origin/main [ahead 1, behind 2]\n"
    upstream = {"name": "origin/main", "ahead": 1, "behind": 2, "whole": True}
    assert read_json(one, "status")["upstream"] == upstream
    one.refresh()
    one.merge("origin/main")
    assert "Your branch is ahead of 'origin/main' by 2 commits" in ask(one, "status")
    one.checkout("HEAD~1")
    assert ask(one, "status", "-sb") == "## HEAD (no branch)\n"


# -- undo and redo in the shell


def test_undo_and_redo_say_what_they_did_to_refs_and_to_the_stage(one: StockRoom) -> None:
    stage(one, "y", 7)
    assert "`stock undo` restores them" in run_stock(one.path, "reset").stderr
    assert run_stock(one.path, "undo").stderr == "undid reset: the staged changes are back\n"
    assert run_stock(one.path, "redo").stderr == "redid reset: the staged changes are discarded again\n"
    ask(one, "tag", "v1")
    assert "undid tag: tag/v1 is gone" in run_stock(one.path, "undo").stderr
    document = read_json(one, "redo")
    assert (document["redone"]["ref"], document["skipped"], document["clean"]) == ("tag/v1", [], True)
    refused = run_stock(one.path, "redo")
    assert (refused.returncode, refused.stderr) == (
        1,
        "stock: nothing to redo; `stock reflog` lists all operations\n",
    )


def test_undo_says_what_it_skipped(one: StockRoom) -> None:
    commit(one, "x", 5, branch="side")
    ask(one, "branch", "-D", "side")
    ask(one, "gc", "--grace", "0")
    told = run_stock(one.path, "undo").stderr.splitlines()
    assert told[0] == "skipped operation 3 (delete-branch branch/side): gc has deleted what it needs"
    assert told[-1].startswith("undid commit: branch/main is gone")
    ask(one, "redo")
    assert [item["kind"] for item in read_json(one, "undo")["skipped"]] == ["delete-branch", "commit"]


# -- blocks


def make_gone(stock: StockRoom) -> None:
    head = stock._repository.read_head()
    stock.checkout(stock.commit_id or "")
    stock.delete_branch("main", force=True)
    stock._repository.paths.head.write(head)


def make_elsewhere(stock: StockRoom) -> None:
    head = stock._repository.read_head()
    stock.reset_to("HEAD~1")
    stock._repository.paths.head.write(head)


def stage_a_conflict(stock: StockRoom) -> None:
    stage(stock, "x", 5)
    commit(stock, "x", 6)


def outrun_a_merge(stock: StockRoom) -> None:
    commit(stock, "side", 1, branch="side")
    with stock.enable_write("ours"):
        stock.data["y"] = [1]
    stock.merge("side", commit=False)
    commit(stock, "z", 1)


def damage_the_settings(stock: StockRoom) -> None:
    (stock.path / ".stockroom" / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (make_gone, RefChangedError),
        (make_elsewhere, RefChangedError),
        (stage_a_conflict, MergeConflictError),
        (outrun_a_merge, RefChangedError),
        (damage_the_settings, MalformedRecordError),
    ],
)
def test_a_block_that_cannot_end_well_fails_when_it_begins(
    one: StockRoom, spoil: Callable[[StockRoom], None], error: type[Exception]
) -> None:
    with one.enable_write("second"):
        one.data["x"] = [2]
    spoil(one)
    one.refresh()
    before = one._repository.refs.stages()
    began = False
    with pytest.raises(error), one.enable_write("too late"):
        began = True
    assert not began
    assert one._repository.refs.stages() == before


def test_a_branch_to_be_made_by_a_block_or_session_is_named_like_no_other(stock: StockRoom) -> None:
    with stock.session("Main", message="made first") as session:
        session.data["x"] = [1]
    with pytest.raises(InvalidNameError, match="differs"), stock.enable_write("first"):
        pytest.fail("it began")
    with pytest.raises(InvalidNameError, match="differs"):
        stock.session("MAIN")


def test_a_session_that_cannot_end_well_fails_when_it_begins(one: StockRoom) -> None:
    with pytest.raises(InvalidInputError, match="commit message"):
        one.session(message=7)  # type: ignore[arg-type]
    damage_the_settings(one)
    with pytest.raises(MalformedRecordError):
        one.session()


def test_a_block_may_decide_the_conflicts_of_a_merge(one: StockRoom) -> None:
    commit(one, "x", 5, branch="side")
    with one.enable_write("ours"):
        one.data["x"] = [6]
    one.merge("side", commit=False)
    with one.enable_write("Both"):
        one.data["x"][0] = 11
        assert one.resolve("data/x", 0) == 0
    assert (one.data["x", 0], len(next(one.log()).parents)) == (11, 2)


def test_staged_changes_that_merge_with_the_commits_of_sessions_do_not_stop_a_block(one: StockRoom) -> None:
    stage(one, "y", 7)
    commit(one, "z", 1)
    with one.enable_write("nothing"):
        pass
    assert not one.status().clean  # a block that changes nothing commits nothing
    with one.enable_write("both"):
        one.data["w"] = [1]
    assert sorted(one.data) == ["w", "x", "y", "z"]


def test_damage_elsewhere_does_not_keep_status_from_answering(one: StockRoom, tmp_path: Path) -> None:
    one.add_remote("origin", str(tmp_path / "remote"))
    one.push()

    def spoil(txn: WriteTxn) -> None:
        txn.put("remotes", b"origin/main", b"short")
        txn.put("stage", b"session/night", b"nonsense")

    one._repository.env.update(spoil)
    told = ask(one, "status")
    assert "night" in told
    assert "origin" not in told
