"""Writers that others outran: their work lands on top, or is kept where the error says, and nothing else changes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stockroom import (
    ConflictError,
    InvalidInputError,
    MalformedRecordError,
    MergeConflictError,
    NotFoundError,
    StockRoom,
)
from stockroom.refs import RefStore, Stage

COMMITTER = """
import sys
from stockroom import StockRoom

with StockRoom(sys.argv[1]) as stock:
    print("ready", flush=True)
    for n in range(int(sys.argv[3])):
        with stock.session() as session:
            session.data["x"][int(sys.argv[2]) * 1000 + n] = n
"""


@pytest.fixture
def stock(tmp_path: Path) -> StockRoom:
    """A repository with a column of 10 numbers and one value."""
    with StockRoom.init(tmp_path / "repo", "Ada", "ada@example.org") as stock:
        with stock.enable_write("First"):
            stock.data["x"] = np.arange(10)
            stock.experiment["count"] = 1
        yield stock


def commit(stock: StockRoom, key: int, value: int) -> None:
    """Commit one number through a session of another handle."""
    with StockRoom(stock.path) as other, other.session(message=f"Session {key}") as session:
        session.data["x"][key] = value


def read_messages(stock: StockRoom) -> list[str]:
    return [commit.message for commit in stock.log("main")]


def read_stage(stock: StockRoom) -> Stage | None:
    return stock._repository.refs.get_stage()


def find_kept(error: Exception) -> str:
    """The name of the session that an error says work is kept in."""
    found = re.search(r"kept in the session '([^']+)'", str(error))
    assert found is not None, error
    return found[1]


@pytest.fixture
def outrun(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None], int], None]:
    """Make others act between a writer's merge and its move of the branch, so many times."""

    def prepare(act: Callable[[], None], times: int) -> None:
        apply, left = RefStore.apply, [times]

        def outrun_and_apply(self: RefStore, change: object, **options: object) -> object:
            if getattr(change, "commits", ()) and left[0]:
                left[0] -= 1
                count, left[0] = left[0], 0  # not the other's own move
                act()
                left[0] = count
            return apply(self, change, **options)

        monkeypatch.setattr(RefStore, "apply", outrun_and_apply)

    return prepare


@pytest.mark.parametrize("times", [1, 4])
def test_a_write_block_that_is_outrun_at_the_last_moment_goes_on_top(stock: StockRoom, outrun, times: int) -> None:
    """
    First---Session 50---...---Block     main: the sessions land while the block is being put on the tip
    """
    keys = iter(range(50, 60))
    outrun(lambda: commit(stock, next(keys), 7), times)
    with stock.enable_write("Block"):
        stock.data["x"][0] = 1
    assert read_messages(stock) == ["Block", *(f"Session {50 + n}" for n in reversed(range(times))), "First"]
    assert [int(stock.data["x"][key]) for key in (0, *range(50, 50 + times))] == [1, *[7] * times]
    assert stock.status().clean
    assert StockRoom(stock.path).commit_id == stock.branches["main"]


def test_a_merge_that_is_outrun_is_done_again(stock: StockRoom, outrun) -> None:
    stock.checkout("dev", create=True)
    with stock.enable_write("Dev"):
        stock.data["x"][20] = 2
    stock.checkout("main")
    with stock.enable_write("Main"):
        stock.data["x"][21] = 2
    outrun(lambda: commit(stock, 50, 7), 1)
    stock.merge("dev")
    assert read_messages(stock)[:2] == ["Merge dev into main", "Session 50"]
    assert [int(stock.data["x"][key]) for key in (20, 21, 50)] == [2, 2, 7]
    assert stock.status().clean


def test_write_blocks_land_beside_sessions_that_commit_all_the_time(stock: StockRoom) -> None:
    blocks, commits, processes = 10, 25, 3
    words = [sys.executable, "-c", COMMITTER, str(stock.path)]
    running = [subprocess.Popen([*words, str(n + 1), str(commits)], stdout=subprocess.PIPE) for n in range(processes)]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for n in range(blocks):
        with stock.enable_write(f"Block {n}"):
            stock.data["x"][100 + n] = n
    assert [process.wait() for process in running] == [0] * processes
    stock.refresh()
    assert len(read_messages(stock)) == 1 + blocks + processes * commits
    assert len(stock.data["x"]) == 10 + blocks + processes * commits
    assert stock.status().clean


def test_a_write_block_in_conflict_is_kept_in_a_session_that_can_decide(stock: StockRoom) -> None:
    with pytest.raises(MergeConflictError) as caught, stock.enable_write("Block"):  # noqa: PT012 - raised at its end
        stock.data["x"][0] = 1
        stock.data["x"][70] = 1
        commit(stock, 0, 2)
    assert [conflict.key for conflict in caught.value.conflicts] == [0]
    assert stock.status().clean
    assert read_messages(stock) == ["Session 0", "First"]
    with stock.session(name=find_kept(caught.value), strategy="ours", message="After all") as session:
        assert (session.data["x"][0], session.data["x"][70]) == (1, 1)
    stock.refresh()
    assert read_messages(stock) == ["After all", "Session 0", "First"]
    assert (stock.data["x"][0], stock.data["x"][70]) == (1, 1)


def test_what_was_staged_before_a_block_in_conflict_stays_as_it_was(stock: StockRoom) -> None:
    with StockRoom(stock.path, enable_write=True) as staging:
        staging.data["x"][5] = 55
    before = read_stage(stock)
    with pytest.raises(MergeConflictError) as caught, stock.enable_write("Block"):  # noqa: PT012 - raised at its end
        stock.data["x"][0] = 1
        commit(stock, 0, 2)
    assert read_stage(stock) == before is not None
    with StockRoom(stock.path).session(name=find_kept(caught.value)) as kept:
        assert (kept.data["x"][0], kept.data["x"][5]) == (1, 55)
        kept.reset()
    with StockRoom(stock.path, enable_write=True) as staging:
        staging.commit("What was staged")
    stock.refresh()
    assert (stock.data["x"][0], stock.data["x"][5]) == (2, 55)


@pytest.mark.parametrize("staged", [False, True])
def test_a_block_that_fails_after_it_caught_up_leaves_the_stage_as_it_was(stock: StockRoom, staged: bool) -> None:
    """The stage would otherwise be the reverse of what the sessions committed."""
    if staged:
        with StockRoom(stock.path, enable_write=True) as staging:
            staging.data["x"][5] = 55
    before = read_stage(stock)
    with pytest.raises(ZeroDivisionError), stock.enable_write("Block") as writer:  # noqa: PT012 - raised in the middle
        commit(stock, 0, 2)
        writer.merge("main") if not staged else writer.data["x"].__setitem__(1, 1)
        1 / 0  # noqa: B018
    assert read_stage(stock) == before
    with StockRoom(stock.path, enable_write=True) as staging:
        staging.data["x"][6] = 66
        staging.commit("Next")
    stock.refresh()
    assert (stock.data["x"][0], stock.data["x"][6]) == (2, 66)


def test_a_write_block_on_a_detached_head_is_refused_before_any_work(stock: StockRoom) -> None:
    stock.checkout(stock.commit_id)
    began = False
    with pytest.raises(ConflictError, match="detached"), stock.enable_write("Block"):
        began = True
    assert not began
    with pytest.raises(InvalidInputError, match="commit message"), stock.enable_write(7):
        began = True
    assert not began


def test_a_block_whose_commit_fails_for_another_reason_is_kept_too(stock: StockRoom) -> None:
    config = stock.path / ".stockroom" / "config.json"
    sound = config.read_bytes()
    with pytest.raises(MalformedRecordError) as caught, stock.enable_write("Block"):  # noqa: PT012 - raised at its end
        stock.data["x"][0] = 1
        config.write_bytes(b"{")
    config.write_bytes(sound)
    with stock.session(name=find_kept(caught.value)) as session:
        assert session.data["x"][0] == 1
    stock.refresh()
    assert stock.data["x"][0] == 1


@pytest.mark.parametrize("name", [None, "job-7"])
def test_a_session_in_conflict_at_its_end_is_kept(stock: StockRoom, name: str | None) -> None:
    with pytest.raises(MergeConflictError) as caught, stock.session(name=name) as session:  # noqa: PT012 - at its end
        session.data["x"][0] = 1
        commit(stock, 0, 2)
    kept = find_kept(caught.value)
    assert kept == name or (name is None and kept.startswith("kept-"))
    with stock.session(name=kept) as session:
        assert session.resolve("data/x", 0, choice="theirs") == 0
        session.data["x"][1] = 9
    stock.refresh()
    assert (stock.data["x"][0], stock.data["x"][1]) == (2, 9)


def test_conflicts_are_decided_inside_a_session_one_by_one(stock: StockRoom) -> None:
    with stock.session() as session:
        for key in range(3):
            session.data["x"][key] = 70 + key
            commit(stock, key, 80 + key)
        with pytest.raises(NotFoundError, match="no conflict with the commits of others"):
            session.resolve("data/x", 9)
        assert session.resolve("data/x", 0) == 2
        with pytest.raises(MergeConflictError, match="2 conflicts"):
            session.commit("Too early")
        with pytest.raises(InvalidInputError, match="average"):
            session.resolve("data/x", 1, choice="average")
        assert session.resolve("data/x", 1, choice="theirs") == 1
        session.strategy = {"data/x": "ours"}
        session.commit("Decided")
    stock.refresh()
    assert [int(stock.data["x"][key]) for key in range(3)] == [70, 81, 72]


def test_a_session_that_refreshes_sees_others_and_goes_on_from_there(stock: StockRoom) -> None:
    with stock.session() as session:
        session.data["x"][1] = 11
        commit(stock, 0, 5)
        assert session.data["x"][0] == 0
        session.refresh()
        assert (session.commit_id, session.data["x"][0]) == (stock.branches["main"], 5)
        assert list(session.status().changes) == ["data/x"]
        session.data["x"][0] = session.data["x"][0] + 1
        commit(stock, 1, 12)
        with pytest.raises(MergeConflictError):
            session.refresh()
        assert (session.data["x"][0], session.data["x"][1]) == (6, 11)
        session.strategy = "theirs"
        session.refresh()
        assert (session.data["x"][0], session.data["x"][1]) == (6, 12)
    stock.refresh()
    assert (stock.data["x"][0], stock.data["x"][1]) == (6, 12)


def test_a_session_that_fails_after_it_refreshed_leaves_its_stage_as_it_was(stock: StockRoom) -> None:
    session = stock.session(name="job")
    session.data["x"][1] = 11
    session.close()
    with pytest.raises(ZeroDivisionError), stock.session(name="job") as session:  # noqa: PT012 - raised in the middle
        commit(stock, 0, 5)
        session.refresh()
        session.data["x"][2] = 12
        1 / 0  # noqa: B018
    with stock.session(name="job", message="Job") as session:
        assert [int(session.data["x"][key]) for key in range(3)] == [0, 11, 2]
    stock.refresh()
    assert [int(stock.data["x"][key]) for key in range(3)] == [5, 11, 2]
