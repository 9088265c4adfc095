"""Sessions: many writers on one repository, none of which waits for another, and none of which loses anything."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stockroom import (
    ClosedError,
    ConflictError,
    LockedError,
    MergeConflictError,
    NothingToCommitError,
    ReadOnlyError,
    SampleNotFoundError,
    StockRoom,
    make_torch_dataset,
)

PROCESSES = 16
COMMITS = int(os.environ.get("STOCKROOM_SESSION_COMMITS", "10"))
"""Commits of each of the processes; the long campaign sets 200."""


@pytest.fixture
def stock(tmp_path: Path) -> StockRoom:
    """A repository with a column of 10 numbers, one value and one model."""
    with StockRoom.init(tmp_path / "repo", "Ada", "ada@example.org") as stock:
        with stock.enable_write("First"):
            stock.data["x"] = np.arange(10)
            stock.experiment["lr"] = 0.1
            stock.model["net"] = {"body": np.zeros(1000), "head": np.zeros(10)}
        yield stock


def count_history(stock: StockRoom) -> int:
    stock.refresh()
    return len(list(stock.log()))


def test_two_sessions_that_change_different_things_both_land_in_a_line(stock: StockRoom) -> None:
    """
    First---A---B     main: A of session one, B of session two, which began at First
    """
    with stock.session() as one, stock.session() as two:
        one.data["x"][100] = 1
        two.data["x"][200] = 2
        two.model["net"] = two.model["net"].load() | {"head": np.ones(10)}
        first = one.commit("A")
        second = two.commit("B")
        assert dict(zip(two.data["x"].keys(), map(int, two.data["x"].values()), strict=True))[100] == 1
    stock.refresh()
    assert stock.commit_id == second
    assert [commit.parents for commit in stock.log(n=1)] == [(first,)]
    assert (stock.data["x"][100], stock.data["x"][200]) == (1, 2)
    assert stock.model["net"]["head"][0] == 1


def test_a_session_sees_its_own_changes_and_nobody_elses_until_it_commits(stock: StockRoom) -> None:
    """
    First---Seven---Eight     main: of session one, and of session two, which began at First
    """
    with stock.session() as one, stock.session() as two:
        one.data["x"][0] = 7
        assert one.data["x"][0] == 7
        assert two.data["x"][0] == 0
        assert stock.data["x"][0] == 0
        one.commit("Seven")
        assert two.data["x"][0] == 0
        two.data["x"][1] = 8
        two.commit("Eight")
        assert (two.data["x"][0], two.data["x"][1]) == (7, 8)


def test_what_two_sessions_change_differently_is_a_conflict_that_leaves_the_later_one_as_it_was(
    stock: StockRoom,
) -> None:
    r"""
    First---Seven---As one has it     main: theirs is Seven (session one), ours what session two began at First
         \
          (Eight)                     refused
    """
    with stock.session() as one, stock.session() as two:
        one.data["x"][0] = 7
        one.commit("Seven")
        two.data["x"][0] = 8
        two.data["x"][50] = 9
        with pytest.raises(MergeConflictError) as caught:
            two.commit("Eight")
        assert [(conflict.path, conflict.key) for conflict in caught.value.conflicts] == [("data/x", 0)]
        assert count_history(stock) == 2
        assert (two.data["x"][0], two.data["x"][50]) == (8, 9)
        two.data["x"][0] = 7  # now they agree
        two.commit("As one has it")
    assert (stock.refresh(), stock.data["x"][0], stock.data["x"][50])[1:] == (7, 9)


@pytest.mark.parametrize(("strategy", "expected"), [("ours", 8), ("theirs", 7), ({"data/x": "ours"}, 8)])
def test_a_strategy_decides_between_a_session_and_the_others(stock: StockRoom, strategy: object, expected: int) -> None:
    """
    First---Seven---Eight     main: theirs is Seven (session one), ours is Eight (session two), begun at First
    """
    with stock.session() as one, stock.session(strategy=strategy) as two:
        one.data["x"][0] = 7
        one.commit("Seven")
        two.data["x"][0] = 8
        two.data["x"][1] = 9
        two.commit("Eight")
    stock.refresh()
    assert (stock.data["x"][0], stock.data["x"][1]) == (expected, 9)


def test_sessions_that_make_the_same_column_fill_it_together(stock: StockRoom) -> None:
    with stock.session() as one, stock.session() as two:
        for number, session in enumerate((one, two)):
            session.data.create("y", dtype="int64", shape=())[number] = number
            session.experiment.log({"loss": number}, step=number)
    stock.refresh()
    assert stock.data["y"].keys() == {0, 1}
    assert stock.experiment.metrics["loss"].values.tolist() == [0, 1]


def test_a_session_commits_what_is_left_at_its_end_and_nothing_after_an_exception(stock: StockRoom) -> None:
    with stock.session(message="At the end") as session:
        session.data["x"][0] = 1
    with pytest.raises(SampleNotFoundError), stock.session() as session:  # noqa: PT012 - what is written before is the point
        session.data["x"][0] = 2
        session.data["x"][999]
    with stock.session():
        pass
    assert [commit.message for commit in (stock.refresh(), stock.log(n=1))[1]] == ["At the end"]
    assert stock.data["x"][0] == 1
    assert count_history(stock) == 2
    with stock.session() as session, pytest.raises(NothingToCommitError):
        session.commit("Nothing")


def test_a_session_on_a_new_branch_begins_it_at_head_with_its_first_commit(stock: StockRoom) -> None:
    r"""
    First                  main
         \
          Update data       sweep
    """
    with stock.session(branch="sweep") as session:
        assert session.data["x"][0] == stock.data["x"][0]
        assert session.status().clean
        session.reset()
        assert session.commit_id == stock.commit_id
        session.data["y"] = np.arange(3)
        assert stock.branches.keys() == {"main"}
    assert stock.branches.keys() == {"main", "sweep"}
    assert [commit.message for commit in stock.log("sweep")] == ["Update data", "First"]
    assert count_history(stock) == 1
    assert stock.merge("sweep").outcome == "fast-forward"


def test_sessions_that_make_the_same_branch_are_both_on_it(stock: StockRoom) -> None:
    with stock.session(branch="sweep") as one, stock.session(branch="sweep", name="mine") as two:
        one.data["x"][0] = 7
        one.commit("One")
        two.data["x"][1] = 8
        two.flush()
    assert [commit.message for commit in stock.log("sweep")] == ["Update data", "One", "First"]
    with StockRoom(stock.path, ref="sweep") as sweep:
        assert (sweep.data["x"][0], sweep.data["x"][1]) == (7, 8)


def test_a_branch_deleted_meanwhile_is_not_made_again(stock: StockRoom) -> None:
    stock.create_branch("sweep")
    with stock.session(branch="sweep") as session:
        session.data["x"][0] = 1
        stock.delete_branch("sweep", force=True)
        with pytest.raises(ConflictError, match="deleted"):
            session.commit("Too late")
        session.reset()


def test_a_write_block_puts_its_commit_on_top_of_what_sessions_committed_meanwhile(stock: StockRoom) -> None:
    """
    First---Update data---Block     main: of a session, and of the block, which began at First
    """
    with stock.enable_write("Block"):
        stock.data["x"][0] = 1
        with StockRoom(stock.path).session() as session:
            session.data["x"][1] = 2
    assert [commit.message for commit in stock.log()] == ["Block", "Update data", "First"]
    assert (stock.data["x"][0], stock.data["x"][1]) == (1, 2)
    assert StockRoom(stock.path).commit_id == stock.commit_id == stock.branches["main"]


def test_a_write_block_that_changed_the_same_as_a_session_is_refused_and_leaves_no_trace(stock: StockRoom) -> None:
    with pytest.raises(MergeConflictError), stock.enable_write("Block"):  # noqa: PT012 - raised at its end
        stock.data["x"][0] = 1
        with StockRoom(stock.path).session() as session:
            session.data["x"][0] = 2
    assert [commit.message for commit in stock.log("main")] == ["Update data", "First"]
    assert stock.status().clean


def test_head_comes_along_with_its_branch_unless_something_is_staged_there(stock: StockRoom) -> None:
    """
    First---x[0]---x[2]---What was staged     main
              |
              HEAD stays here while x[1] is staged
    """
    with stock.session() as session:
        session.data["x"][0] = 1
    assert StockRoom(stock.path).commit_id == stock.branches["main"]
    with StockRoom(stock.path, enable_write=True) as staging:
        staging.data["x"][1] = 5
    with stock.session() as session:
        session.data["x"][2] = 3
    with StockRoom(stock.path) as reader:
        assert reader.commit_id != stock.branches["main"]
        assert list(reader.status().changes) == ["data/x"]
    with StockRoom(stock.path, enable_write=True) as staging:
        staging.commit("What was staged")
    with StockRoom(stock.path) as reader:
        assert [int(reader.data["x"][key]) for key in range(3)] == [1, 5, 3]


def test_a_named_session_goes_on_from_what_a_killed_process_had_flushed(stock: StockRoom) -> None:
    script = (
        "import os, signal, sys\n"
        "from stockroom import StockRoom\n"
        "session = StockRoom(sys.argv[1]).session(name='job-7')\n"
        "session.data['x'][77] = 7\n"
        "session.experiment.log({'loss': 0.5}, step=3)\n"
        "session.flush()\n"
        "session.data['x'][78] = 8\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(stock.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with stock.session(name="job-7", timeout_s=0) as session:  # in at once
        assert 77 in session.data["x"]
        assert 78 not in session.data["x"]
        assert session.experiment.metrics["loss"].values.tolist() == [0.5]
    stock.refresh()
    assert stock.data["x"][77] == 7
    with stock.session(name="job-7") as session:
        assert session.status().clean


def test_one_name_is_held_by_one_session_at_a_time_and_others_do_not_wait_for_it(stock: StockRoom) -> None:
    with stock.session(name="a") as held:
        with pytest.raises(LockedError, match="this process itself has been writing") as caught:
            stock.session(name="a", timeout_s=0)
        assert caught.value.pid == os.getpid()
        with stock.session(name="b") as other, stock.session() as nameless, stock.enable_write():
            other.data["x"][0] = 1
            nameless.data["x"][1] = 1
            held.data["x"][2] = 1
            stock.data["x"][3] = 1
    stock.refresh()
    assert [int(stock.data["x"][key]) for key in range(4)] == [1, 1, 1, 1]


def test_a_name_may_be_as_long_as_names_are(stock: StockRoom) -> None:
    with stock.session(name="n" * 200) as session:
        session.data["x"][0] = 4
    assert (stock.refresh(), stock.data["x"][0])[1] == 4


def test_a_link_in_place_of_the_lock_of_commits_leads_nowhere(stock: StockRoom, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (stock.path / ".stockroom" / "commit.lock").unlink()
    (stock.path / ".stockroom" / "commit.lock").symlink_to(elsewhere)
    with stock.session() as session:
        session.data["x"][0] = 4
        with pytest.raises(OSError, match=r"commit\.lock"):
            session.commit("Through a link")
        session.reset()
    assert not elsewhere.exists()


def test_a_killed_session_loses_what_it_had_not_committed_and_keeps_nobody_out(stock: StockRoom) -> None:
    script = (
        "import sys\n"
        "from stockroom import StockRoom\n"
        "session = StockRoom(sys.argv[1]).session()\n"
        "number = 0\n"
        "while True:\n"
        "    session.data['x'][1000 + number] = number\n"
        "    session.model['net'] = {'body': [number] * 100}\n"
        "    print(number, session.commit(str(number)), flush=True)\n"
        "    number += 1\n"
    )
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(stock.path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reported = [process.stdout.readline().split() for _ in range(3 + round_)]
        process.kill()
        reported += [line.split() for line in process.communicate()[0].splitlines() if len(line.split()) == 2]
        stock.refresh()
        history = {commit.id for commit in stock.log("main")}
        assert history >= {commit for _, commit in reported}
        with stock.session() as session:
            session.data["x"][0] = round_ + 100
    assert not stock.verify().damage


def test_sessions_and_what_comes_of_them_stay_where_they_were_made(stock: StockRoom) -> None:
    with stock.session() as session:
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(session)
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(session.data["x"])
        with pytest.raises(ConflictError, match="session"):
            session.checkout("main")
        with pytest.raises(LockedError), session.enable_write():
            pass
        session.data["x"][0] = 3
        assert _ask_forked_child(lambda: _try_to_write(session)) == "ClosedError"
    assert (stock.refresh(), stock.data["x"][0])[1] == 3
    with pytest.raises(ClosedError):
        session.data["x"][0] = 4


def test_a_session_has_no_way_to_move_head(stock: StockRoom) -> None:
    with stock.session() as session:
        assert not isinstance(session, StockRoom)
        calls = {
            "checkout": "main", "undo": None, "pull": None, "merge": "main", "revert": "HEAD", "cherry_pick": "HEAD",
            "continue_merge": None, "abort_merge": None, "reset_to": "HEAD",
        }  # fmt: skip
        for name, argument in calls.items():
            with pytest.raises(ConflictError, match="stays on its branch"):
                getattr(session, name)(*([] if argument is None else [argument]))
        with session.session("other") as another:
            another.data["y"] = [1]
    assert set(stock.branches) == {"main", "other"}
    with pytest.raises(ClosedError):
        session.undo()


def _ask_forked_child(ask: Callable[[], str]) -> str:
    """What `ask` answers in a process forked from this one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, ask().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said


def _try_to_write(session: StockRoom) -> str:
    try:
        session.data["x"][0] = 5
        session.commit("From a forked child")
    except Exception as error:
        return type(error).__name__
    return "written"


class _Writes(torch.utils.data.Dataset[int]):
    """A data set whose workers try to write through what they were given."""

    def __init__(self, dataset: torch.utils.data.Dataset[object], path: Path) -> None:
        self.dataset = dataset
        self.path = path

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        assert self.dataset[index] is not None
        refused = 0
        columns = [value for value in vars(self.dataset).values() if hasattr(value, "update")]
        for column in columns:
            try:
                column[index] = 99
            except (ReadOnlyError, TypeError):
                refused += 1
        with StockRoom(self.path) as reader:
            for write in (
                lambda: reader.data["x"].__setitem__(index, 99),
                lambda: reader.experiment.log({"loss": 1.0}),
                lambda: reader.model.save("net", {}),
                lambda: reader.commit("From a worker"),
            ):
                try:
                    write()
                except ReadOnlyError:
                    refused += 1
        return refused - len(columns)


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_of_a_loader_cannot_write(stock: StockRoom, start: str) -> None:
    dataset = _Writes(make_torch_dataset([stock.data["x"]]), stock.path)
    before = stock.commit_id
    loader = DataLoader(dataset, num_workers=2, multiprocessing_context=start)
    assert [int(refused) for refused in loader] == [4, 4, 4, 4]
    stock.refresh()
    assert (stock.commit_id, stock.status().clean) == (before, True)


COMMITTER = """
import sys
from stockroom import StockRoom

path, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with StockRoom(path) as stock, stock.session() as session:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(count):
        session.data["x"][1000 * (number + 1) + n] = n
        session.commit(f"{number}/{n}")
"""


def test_sixteen_processes_commit_to_one_branch_and_no_commit_is_lost(stock: StockRoom) -> None:
    """
    First---3/0---0/0---3/1---7/0---...     main: one line, in which the commits of each process are in order
    """
    commands = [[sys.executable, "-c", COMMITTER, str(stock.path), str(p), str(COMMITS)] for p in range(PROCESSES)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for command in commands]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    started_s = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.wait() for worker in workers] == [0] * PROCESSES
    took_s = time.perf_counter() - started_s
    total = PROCESSES * COMMITS
    print(f"{total} commits of {PROCESSES} processes in {took_s:.1f} s: {total / took_s:.0f}/s")
    for worker in workers:
        worker.communicate()
    stock.refresh()
    messages = [commit.message for commit in stock.log("main")]
    assert sorted(messages) == sorted(["First", *(f"{p}/{n}" for p in range(PROCESSES) for n in range(COMMITS))])
    assert all(len(commit.parents) <= 1 for commit in stock.log("main"))
    column = stock.data["x"]
    expected = {1000 * (p + 1) + n: n for p in range(PROCESSES) for n in range(COMMITS)}
    assert {key: int(column[key]) for key in expected} == expected
    assert not stock.verify().damage
