"""Bringing lines of history together: fast-forward, three-way merge, conflicts; and what a kill or an undo leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit.forks import collect_conflicts, commit, fork
from tests.kit.programs import run_stock

from stockroom import ConflictError, MergeConflictError, StockRoom

KILLS = 12


def sample(number: int) -> np.ndarray:
    return np.full((3, 20), number, np.int32)


def make_keys(key_type: str) -> Callable[[int], Any]:
    return (lambda n: n) if key_type == "int" else (lambda n: f"key/{n} é")


@pytest.fixture(params=["int", "str"])
def key(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    """Makes the n-th key of a column: ints, or strs with spaces, slashes and accents."""
    return make_keys(request.param)


def put(samples: dict[Any, int], deletes: list[Any] | None = None) -> Callable[[StockRoom], None]:
    """Sets and takes out samples of the column `x`."""

    def change(writer: StockRoom) -> None:
        if "x" not in writer.data:
            first = next(iter(samples))
            writer.data.create("x", dtype="int32", shape=(3, 20), keys=type(first).__name__)
        writer.data["x"].update({k: sample(v) for k, v in samples.items()})
        for k in deletes or []:
            del writer.data["x"][k]

    return change


def read(stock: StockRoom) -> dict[Any, int]:
    return {k: int(value[0, 0]) for k, value in stock.data["x"].items()}


# -- fast-forward


def test_a_branch_that_only_went_on_is_followed_without_a_commit(stock: StockRoom) -> None:
    """
    first            main
         \\
          second     dev
    """
    commit(stock, put({0: 0}), "first")
    stock.checkout("dev", create=True)
    commit(stock, put({1: 1}), "second")
    stock.checkout("main")
    merged = stock.merge("dev")
    assert (merged.outcome, merged.commit_id) == ("fast-forward", stock.branches["dev"])
    assert stock.branches["main"] == stock.branches["dev"] == stock.commit_id
    assert read(stock) == {0: 0, 1: 1}
    assert [entry.message for entry in stock.log()] == ["second", "first"]
    again = stock.merge("dev")
    assert (again.outcome, again.commit_id) == ("up to date", stock.commit_id)
    assert stock.merge("dev~1").outcome == "up to date"
    assert len([done for done in stock.operations() if done.kind == "merge"]) == 1


def test_a_branch_without_commits_begins_where_the_other_is(stock: StockRoom) -> None:
    commit(stock, put({0: 0}))
    (stock.path / "head.stock").write_text("stockroom head 1\nbranch new\ncommit -\n")
    with StockRoom(stock.path) as fresh:
        assert fresh.merge("main").outcome == "fast-forward"
        assert fresh.branches["new"] == fresh.branches["main"] == fresh.commit_id


def test_a_merge_commit_can_be_asked_for_or_refused(stock: StockRoom) -> None:
    commit(stock, put({0: 0}))
    stock.checkout("dev", create=True)
    commit(stock, put({1: 1}))
    stock.checkout("main")
    assert stock.merge("dev", fast_forward="never").outcome == "merged"
    assert len(next(stock.log()).parents) == 2
    commit(stock, put({2: 2}))
    stock.checkout("dev")
    commit(stock, put({3: 3}))
    with pytest.raises(ConflictError, match="cannot fast-forward"):
        stock.merge("main", fast_forward="only")


# -- three-way merges


def test_twenty_samples_changed_on_both_sides_come_together(stock: StockRoom, key: Callable[[int], Any]) -> None:
    ours = {key(n): 100 + n for n in range(5)} | {key(n): 100 + n for n in range(20, 24)}
    theirs = {key(n): 200 + n for n in range(10, 15)} | {key(n): 200 + n for n in range(30, 33)}
    fork(stock, put({key(n): n for n in range(20)}), put(ours, [key(19)]), put(theirs, [key(18)]))
    parents = (stock.branches["main"], stock.branches["dev"])
    merged = stock.merge("dev", message="Together")
    entry = next(stock.log())
    assert (merged.outcome, entry.id, entry.parents, entry.message) == (
        "merged",
        merged.commit_id,
        parents,
        "Together",
    )
    expected = {key(n): n for n in range(18)} | ours | theirs
    assert read(stock) == expected
    assert stock.branches["dev"] == parents[1]
    assert len(list(stock.log())) == 4
    assert stock.verify().ok
    assert stock.merge("dev").outcome == "up to date"


def test_refused_while_changes_are_staged(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"][9] = sample(9)
    before = stock.commit_id
    with pytest.raises(ConflictError, match=r"commit.*reset"):
        stock.merge("dev")
    refused = run_stock(stock.path, "merge", "dev")
    assert (refused.returncode, refused.stdout) == (14, "")
    assert list(stock.status().changes["data/x"].added) == [9]
    stock.refresh()
    assert stock.commit_id == before
    with StockRoom(stock.path, enable_write=True) as writer, pytest.raises(ConflictError, match="staged"):
        writer.merge("dev")


def test_refused_on_a_detached_head(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    stock.checkout("main~1")
    for refused in (stock.merge, stock.revert, stock.cherry_pick):
        with pytest.raises(ConflictError, match="detached"):
            refused("dev")


def test_a_merge_in_a_write_block_and_in_an_open_writer(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    with stock.enable_write("and more") as writer:
        column = writer.data["x"]
        assert sorted(column) == [0, 1]
        writer.merge("dev")
        assert sorted(column) == [0, 1, 2]
        column[3] = sample(3)
    assert read(stock) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert [entry.message for entry in stock.log(n=2)] == ["and more", "Merge dev into main"]
    stock.checkout("dev")
    commit(stock, put({4: 4}))
    stock.checkout("main")
    with StockRoom(stock.path, enable_write=True) as writer:
        assert sorted(writer.data["x"]) == [0, 1, 2, 3]
        writer.merge("dev")
        writer.data["x"][5] = sample(5)
        writer.commit("last")
    stock.refresh()
    assert sorted(read(stock)) == [0, 1, 2, 3, 4, 5]


def test_a_merge_follows_a_branch_that_sessions_moved_on(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    with StockRoom(stock.path, enable_write=True) as writer:
        with stock.session(branch="main") as beside:
            put({3: 3})(beside)
        writer.merge("dev")
        assert read(writer) == {0: 0, 1: 1, 2: 2, 3: 3}
    stock.refresh()
    assert stock.branches["main"] == stock.commit_id
    assert len(list(stock.log())) == 5
    with StockRoom(stock.path, enable_write=True) as writer:
        with stock.session(branch="main") as beside:
            put({4: 4})(beside)
        assert writer.branches["main"] != writer.commit_id
        writer.reset_to("main~1")
        assert writer.branches["main"] == writer.commit_id
        assert 4 not in writer.data["x"]
        assert writer.undo().kind == "reset"
        assert 4 in writer.data["x"]


def test_everything_a_commit_holds_is_merged_at_once(stock: StockRoom) -> None:
    def start(writer: StockRoom) -> None:
        put({0: 0})(writer)
        writer.data["caption"] = {"a": "eins"}
        writer.model["net"] = {"body": torch.zeros(9), "head": torch.zeros(9)}
        writer.experiment["lr"] = 0.1
        writer.experiment.log({"loss": 1.0}, 0)
        writer.experiment.artifact("plot.png", b"old")

    def ours(writer: StockRoom) -> None:
        put({1: 1})(writer)
        writer.model["net"] = {"body": torch.ones(9), "head": torch.zeros(9)}
        writer.experiment.log({"loss": 0.5}, 1)
        writer.experiment["seed"] = 1

    def theirs(writer: StockRoom) -> None:
        writer.data["caption"]["b"] = "zwei"
        writer.data["new"] = [1.5]
        writer.model["net"] = {"body": torch.zeros(9), "head": torch.ones(9)}
        writer.experiment.log({"loss": 0.25}, 2)
        writer.experiment["lr"] = 0.2
        writer.experiment.artifact("plot.png", b"new")
        writer.model["other"] = {"w": torch.ones(2)}

    fork(stock, start, ours, theirs)
    stock.merge("dev")
    assert read(stock) == {0: 0, 1: 1}
    assert dict(stock.data["caption"]) == {"a": "eins", "b": "zwei"}
    assert {name: t.tolist() for name, t in stock.model["net"].load().items()} == {"body": [1] * 9, "head": [1] * 9}
    assert list(stock.model) == ["net", "other"]
    assert dict(stock.experiment) == {"lr": 0.2, "seed": 1}
    assert stock.experiment.metrics["loss"][1].tolist() == [1.0, 0.5, 0.25]
    assert stock.experiment.artifacts["plot.png"].read() == b"new"
    assert stock.verify().ok


def test_histories_of_different_things_are_refused(stock: StockRoom, tmp_path: Path) -> None:
    commit(stock, put({0: 0}))
    with StockRoom.init(tmp_path / "other") as other:
        commit(other, put({1: 1}))
        other.add_remote("origin", str(tmp_path / "remote"))
        other.push()
    stock.add_remote("origin", str(tmp_path / "remote"))
    stock.fetch()
    with pytest.raises(ConflictError, match="share no history"):
        stock.merge("origin/main")
    with pytest.raises(ConflictError, match="share no history"):
        stock.pull()
    assert read(stock) == {0: 0}


# -- conflicts


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ({5: 50}, {5: 51}, ("both added", {})),
        ({0: 10}, {0: 11}, ("both changed", {})),
        ({0: 10}, {0: None}, ("changed by us, deleted by them", {})),
        ({0: None}, {0: 11}, ("deleted by us, changed by them", {})),
        ({5: 50}, {5: 50}, (None, {0: 0, 1: 1, 5: 50})),
        ({0: 10}, {0: 10}, (None, {0: 10, 1: 1})),
        ({0: None}, {0: None}, (None, {1: 1})),
        ({0: 10, 1: 2}, {0: 10, 1: 1}, (None, {0: 10, 1: 2})),
    ],
)
def test_what_both_sides_did_to_one_key(
    stock: StockRoom, key: Callable[[int], Any], ours: dict, theirs: dict, found: tuple
) -> None:
    def change(wanted: dict) -> Callable[[StockRoom], None]:
        puts = {key(n): value for n, value in wanted.items() if value is not None}
        return put(puts, [key(n) for n, value in wanted.items() if value is None])

    kind, content = found
    extra = {7: 7}, {8: 8}  # on each side something that the other leaves alone
    fork(stock, put({key(0): 0, key(1): 1}), change(ours | extra[0]), change(theirs | extra[1]))
    if kind is None:
        stock.merge("dev")
        assert read(stock) == {key(n): value for n, value in (content | extra[0] | extra[1]).items()}
        return
    place = next(iter(ours))
    files = {path: path.read_bytes() for path in (stock.path / ".stockroom").rglob("c.*")}
    assert collect_conflicts(stock) == [("data/x", key(place), kind)]
    assert {path: path.read_bytes() for path in (stock.path / ".stockroom").rglob("c.*")} == files
    stock.checkout("dev")
    swapped = collect_conflicts(stock, "main")
    assert swapped[0][:2] == ("data/x", key(place))
    stock.checkout("main")
    for strategy, side in (("ours", ours), ("theirs", theirs)):
        stock.merge("dev", strategy=strategy)
        expected = {0: 0, 1: 1, 7: 7, 8: 8} | side
        assert read(stock) == {key(n): value for n, value in expected.items() if value is not None}
        stock.undo()


def recreate(writer: StockRoom) -> None:
    keys = writer.data["x"].key_type
    del writer.data["x"]
    writer.data.create("x", dtype="float64", shape=(), keys=keys)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda writer: writer.data.__delitem__("x"), "deleted by us, changed by them"),
        (recreate, "schema"),
    ],
)
def test_a_column_deleted_or_made_anew_while_the_other_side_adds(
    stock: StockRoom, key: Callable[[int], Any], change: Callable[[StockRoom], None], kind: str
) -> None:
    fork(stock, put({key(0): 0}), change, put({key(1): 1}))
    assert collect_conflicts(stock) == [("data/x", None, kind)]
    stock.merge("dev", strategy="theirs")
    assert read(stock) == {key(0): 0, key(1): 1}
    stock.undo()
    stock.merge("dev", strategy={"data/x": "ours"})
    assert "x" not in stock.data or stock.data["x"].dtype == np.float64
    stock.undo()
    stock.checkout("dev")
    swapped = "changed by us, deleted by them" if kind.startswith("deleted") else kind
    assert collect_conflicts(stock, "main") == [("data/x", None, swapped)]


def test_an_undone_merge_leaves_no_trace_and_can_be_done_again(stock: StockRoom) -> None:
    r"""
    base---ours---first      main; undone to ours, then merged again as second
        \        /
         theirs--            dev
    """
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    before = stock.commit_id
    first = stock.merge("dev").commit_id
    undone = stock.undo()
    assert (undone.kind, stock.commit_id) == ("merge", before)
    assert read(stock) == {0: 0, 1: 1}
    second = stock.merge("dev").commit_id
    assert second != first
    assert read(stock) == {0: 0, 1: 1, 2: 2}


# -- a merge that is not committed


LEAVE_STAGED = """
import os, sys
from stockroom import StockRoom
stock = StockRoom(sys.argv[1])
assert stock.merge("dev", message="Later", commit=False).outcome == "staged"
os._exit(0)
"""


def test_a_merge_without_commit_survives_its_process(stock: StockRoom) -> None:
    fork(stock, put({0: 0, 1: 1}), put({0: 10, 5: 5}), put({0: 20, 6: 6}))
    subprocess.run([sys.executable, "-c", LEAVE_STAGED, str(stock.path)], check=True, timeout=60)
    under_way = stock.status().merge
    assert under_way is not None
    assert (under_way.kind, under_way.commit, under_way.message) == ("merge", stock.branches["dev"], "Later")
    assert [(conflict.path, conflict.key) for conflict in under_way.conflicts] == [("data/x", 0)]
    assert stock.verify().ok
    with pytest.raises(MergeConflictError), StockRoom(stock.path, enable_write=True) as writer:
        writer.commit("too early")
    assert stock.resolve("data/x", 0, choice="theirs") == 0
    stock.continue_merge()
    entry = next(stock.log())
    assert (entry.message, len(entry.parents)) == ("Later", 2)
    assert read(stock) == {0: 20, 1: 1, 5: 5, 6: 6}
    assert stock.find_merge() is None


def test_commit_finishes_a_merge_under_way_with_its_own_message(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    assert stock.merge("dev", commit=False).conflicts == ()
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"][3] = sample(3)
        writer.commit("With one more")
    stock.refresh()
    assert len(next(stock.log()).parents) == 2
    assert read(stock) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_a_merge_that_changes_nothing_is_a_commit_all_the_same(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({1: 1}), put({1: 1}))
    stock.merge("dev", commit=False)
    assert not stock.status().changes
    assert not stock.status().clean
    stock.continue_merge()
    assert len(next(stock.log()).parents) == 2
    assert stock.merge("dev").outcome == "up to date"


def test_abort_restores_what_was_there(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({0: 10, 1: 1}), put({0: 20, 2: 2}))
    before = (stock.commit_id, (stock.path / "head.stock").read_bytes())
    stock.merge("dev", commit=False)
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"][9] = sample(9)
    stock.abort_merge()
    assert stock.status().clean
    assert (stock.commit_id, (stock.path / "head.stock").read_bytes()) == before
    assert read(stock) == {0: 10, 1: 1}
    assert stock.merge("dev", strategy="ours").outcome == "merged"


def test_a_failed_commit_after_a_merge_in_a_block_takes_nothing_stale_along(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({0: 10}), put({0: 20}))
    stock.merge("dev", commit=False)
    stock.resolve("data/x", 0, choice="theirs")

    def fail_late() -> None:
        with stock.enable_write() as writer:
            writer.continue_merge()
            writer.data["x"][7] = sample(7)
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        fail_late()
    assert stock.find_merge() is None
    assert stock.status().clean
    assert read(stock) == {0: 20}


def test_refused_or_failed_merges_leave_an_open_writer_as_it_was(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({0: 10}), put({0: 20, 1: 1}))
    with StockRoom(stock.path, enable_write=True) as writer:
        with pytest.raises(MergeConflictError):
            writer.merge("dev")
        assert read(writer) == {0: 10}
        writer.data["x"][5] = sample(5)
        writer.commit("goes on")
    stock.refresh()
    assert read(stock) == {0: 10, 5: 5}
    assert len(next(stock.log()).parents) == 1
    assert stock.verify().ok


# -- histories that cross


def cross(stock: StockRoom, ours: dict, theirs: dict) -> None:
    r"""
    base---A---m1---ours      main, checked out
        \   \ /
         \   X
          \ / \
           B---m2---theirs    dev
    """
    fork(stock, put({n: n for n in range(10)}), put({0: 100, 20: 20}), put({1: 101, 21: 21}))
    stock.create_branch("a", at="main")
    stock.create_branch("b", at="dev")
    stock.merge("b")
    stock.checkout("dev")
    stock.merge("a")
    commit(stock, put(theirs), "theirs")
    stock.checkout("main")
    commit(stock, put(ours), "ours")


def test_a_criss_cross_history_loses_no_commit(stock: StockRoom) -> None:
    cross(stock, {2: 102}, {3: 103})
    stock.merge("dev")
    expected = {n: n for n in range(10)} | {0: 100, 1: 101, 2: 102, 3: 103, 20: 20, 21: 21}
    assert read(stock) == expected
    assert {entry.message for entry in stock.log()} >= {"base", "ours", "theirs"}
    assert len(list(stock.log())) == 8
    stock.checkout("dev")
    assert stock.merge("main").outcome == "fast-forward"


def test_what_two_bases_disagree_about_is_never_guessed(stock: StockRoom) -> None:
    r"""
    base---A---m1      m1 took A's value of key 0, m2 took B's: to merge them is a conflict again, though each
        \   \ /       side has what one of the two bases has
         \   X
          \ / \
           B---m2
    """
    fork(stock, put({0: 0, 1: 1}), put({0: 100}), put({0: 200}))
    stock.create_branch("a", at="main")
    stock.merge("dev", strategy="ours")
    stock.checkout("dev")
    stock.merge("a", strategy="ours")
    commit(stock, put({5: 5}))
    stock.checkout("main")
    assert collect_conflicts(stock) == [("data/x", 0, "both added")]
    commit(stock, put({0: 300}, [0]))
    assert collect_conflicts(stock) == [("data/x", 0, "deleted by us, changed by them")]
    stock.merge("dev", strategy="theirs")
    assert read(stock) == {0: 200, 1: 1, 5: 5}


def test_models_whose_bases_disagree_keep_what_each_side_did_alone(stock: StockRoom) -> None:
    def save(**leaves: float) -> Callable[[StockRoom], None]:
        names = ("a", "b", "c")
        state = {name: torch.full((9,), float(leaves.get(name, 0))) for name in names}
        return lambda writer: writer.model.save("net", state)

    fork(stock, save(), save(a=1), save(a=2))
    stock.create_branch("a", at="main")
    stock.merge("dev", strategy="ours")
    stock.checkout("dev")
    stock.merge("a", strategy="ours")
    commit(stock, save(a=2, b=5))
    stock.checkout("main")
    commit(stock, save(a=1, c=6))
    assert collect_conflicts(stock) == [("model/net", "a", "both changed")]
    stock.merge("dev", strategy="theirs")
    assert [int(leaf[0]) for leaf in stock.model["net"].load().values()] == [2, 5, 6]


def test_a_ladder_of_crossing_merges_is_merged_in_good_time(stock: StockRoom) -> None:
    """Twenty times over, each of two branches merges the other's last commit but one."""
    fork(stock, put({0: 0}), put({1: 1}), put({2: 2}))
    for rung in range(20):
        stock.create_branch(f"a{rung}", at="main")
        stock.create_branch(f"b{rung}", at="dev")
        stock.merge(f"b{rung}")
        commit(stock, put({100 + rung: rung}))
        stock.checkout("dev")
        stock.merge(f"a{rung}")
        commit(stock, put({200 + rung: rung}))
        stock.checkout("main")
    stock.merge("dev")
    assert sorted(read(stock)) == [0, 1, 2, *range(100, 120), *range(200, 220)]


# -- killed


MERGE_FOR_EVER = """
import sys
from stockroom import StockRoom
print("in", flush=True)
while True:
    with StockRoom(sys.argv[1]) as stock:
        done = stock.merge("dev", commit=sys.argv[2] == "commit")
        if sys.argv[2] != "commit":
            stock.resolve("data/x", 0, choice="theirs")
            stock.continue_merge()
        stock.reset_to("main~1")
"""


@pytest.fixture(params=["commit", "by hand"])
def merged_for_ever(request: pytest.FixtureRequest, stock: StockRoom) -> tuple[StockRoom, list[str]]:
    """A repository in which processes merge the same two commits again and again, and the command of one."""
    both = {n: n for n in range(300)}
    conflict = {0: 20} if request.param == "by hand" else {}
    fork(
        stock,
        put(both),
        put({0: 10} | dict.fromkeys(range(1, 50), 1000)),
        put(dict.fromkeys(range(60, 99), 2000) | conflict),
    )
    return stock, [sys.executable, "-c", MERGE_FOR_EVER, str(stock.path), request.param]


def test_a_merge_that_is_killed_happened_or_did_not(merged_for_ever: tuple[StockRoom, list[str]]) -> None:
    stock, command = merged_for_ever
    before = stock.commit_id
    rng = random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        time.sleep(rng.uniform(0, 0.4))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with StockRoom(stock.path) as after:
            assert after.verify().damage == []
            entry = next(after.log())
            assert before in (entry.id, entry.parents[0])
            assert after.branches["main"] == entry.id
            values = read(after)
            assert values[1] == 1000
            assert (values[60] == 2000) == (len(entry.parents) == 2)
            under_way = after.find_merge()
            assert under_way is None or under_way.commit == after.branches["dev"]
            after.reset_to(before or "")
            assert after.status().clean


def test_the_command_line_tells_of_a_merge_another_process_left(stock: StockRoom) -> None:
    fork(stock, put({0: 0}), put({0: 10}), put({0: 20}))
    subprocess.run([sys.executable, "-c", LEAVE_STAGED, str(stock.path)], check=True, timeout=60)
    document = json.loads(run_stock(stock.path, "--json", "status").stdout)
    assert document["merge"]["kind"] == "merge"
    assert document["clean"] is False
    refused = run_stock(stock.path, "checkout", "dev")
    assert refused.returncode == 14
    assert "stock merge --abort" in refused.stderr
