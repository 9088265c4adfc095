"""A power cut at any moment: whatever had been reported as done is there, nothing is damaged, and work goes on.

`STOCKROOM_POWER_CUTS` says how many states of each work are tried; `nox -s powercut` tries all of them.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.kit.power_cut import Record, State, iter_states, try_states

from stockroom import StockRoom
from stockroom.remotes.clone import CloneOptions, clone
from stockroom.remotes.transport.url import parse_remote_settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recorder finds files through /proc")
STATES = int(os.environ.get("STOCKROOM_POWER_CUTS", "40"))
ROWS = 1100
"""More than fit into a location table inside the catalog."""

HARNESS = """
import sys
from datetime import timedelta
from pathlib import Path
import numpy as np
from stockroom import StockRoom
from stockroom.remotes.clone import CloneOptions, clone
from stockroom.remotes.transport.url import parse_remote_settings
from tests.kit.power_cut import record

def pool(n, rows=30):
    return np.random.default_rng(n).integers(0, 256, (rows, 40), np.uint8)

def commit(world, n, rows=30, folder="repo"):
    with StockRoom(world / folder) as stock:
        with stock.enable_write(f"part {n}"):
            stock.data[f"part{n}"] = pool(n, rows)
        return stock.commit_id

def copy(world):
    settings = parse_remote_settings(str(world / "remote"), base=world)
    clone(settings, world / "clone", CloneOptions(metadata_only=True))

def push(world):
    with StockRoom(world / "repo") as stock:
        stock.push()
        return stock.commit_id
"""

BEGIN = """
def work(world, done):
    with StockRoom.init(world / "repo", "a", "a@b") as stock:
        done("init")
        stock.add_remote("origin", str(world / "remote"))
        done("remote")
    for n in range(3):
        done("commit", commit(world, n, ROWS if n < 2 else 30))
    with StockRoom(world / "repo") as stock:
        with stock.session() as session:
            session.data["part3"] = pool(3)
        stock.refresh()
        done("commit", stock.commit_id)
        stock.checkout("dev", create=True)
        stock.checkout("main")
        stock.checkout("dev")
        done("checkout", "dev")
"""

TRANSFER = """
def work(world, done):
    done("push", push(world))
    copy(world)
    done("clone")
    done("commit", commit(world, 7))
    done("push", push(world))
    with StockRoom(world / "clone", lazy=False) as stock:
        stock.fetch()
        done("fetch")
"""

CLEAR = """
def work(world, done):
    with StockRoom(world / "repo") as stock:
        stock.gc(grace=timedelta(0))
    done("gc")
    done("commit", commit(world, 21))  # the same samples again
    with StockRoom(world / "repo") as stock:
        stock.gc(grace=timedelta(0), repack=True)
    done("gc")
    done("commit", commit(world, 5))
"""


def pool(n: int, rows: int = 30) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (rows, 40), np.uint8)


def commit(path: Path, n: int, rows: int = 30) -> None:
    with StockRoom(path) as stock, stock.enable_write(f"part {n}"):
        stock.data[f"part{n}"] = pool(n, rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of every world, so that a remote's path in it stays right."""
    return tmp_path_factory.mktemp("cut") / "world"


@pytest.fixture(scope="module")
def worlds(place):
    """The worlds that the works begin in: empty, with a repository that has a remote, and with waste."""
    folder, repo = place.parent, place / "repo"
    (folder / "empty").mkdir()
    with StockRoom.init(repo, "a", "a@b") as stock:
        stock.add_remote("origin", str(place / "remote"))
    commit(repo, 0)
    commit(repo, 1, ROWS)
    shutil.copytree(place, folder / "small")
    with StockRoom(repo) as stock:
        stock.checkout("dead", create=True)
    commit(repo, 21)
    commit(repo, 22, ROWS)
    with StockRoom(repo) as stock:
        stock.checkout("main")
        stock.delete_branch("dead", force=True)
    place.rename(folder / "waste")
    return folder


def record_work(code: str, world: Path) -> Record:
    out = world.with_suffix(".record")
    program = f"{HARNESS}\nROWS = {ROWS}\n{code}\nrecord(Path(sys.argv[1]), Path(sys.argv[2]), work)"
    words = [sys.executable, "-c", program, str(world), str(out)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(world)
    record = pickle.loads(out.read_bytes())
    assert isinstance(record, Record)
    return record


def list_done(state: State, what: str) -> list:
    return [value for name, *value in state.done if name == what]


def search_commits(state: State) -> set[str]:
    return {commit for (commit,) in list_done(state, "commit")}


def check_repository(path: Path, commits: set[str]) -> None:
    """All commits are there, nothing is damaged, and the next one works."""
    with StockRoom(path) as stock:
        log = [commit.id for commit in stock.log("main")] if "main" in stock.branches else []
        assert commits <= set(log)
        assert stock.verify().damage == []
        for name in [name for name in stock.data if name.startswith("part")]:
            column = stock.data[name]
            assert (column[:] == pool(int(name.removeprefix("part")), len(column))).all()
    with StockRoom(path) as stock, stock.enable_write("next", timeout_s=0):
        for n in (21, 40):
            stock.data[f"next{n}"] = pool(n)
    with StockRoom(path) as stock:
        for n in (21, 40):
            assert (stock.data[f"next{n}"][:] == pool(n)).all()
        assert stock.verify().damage == []


def check_begin(world: Path, state: State) -> None:
    if list_done(state, "init"):
        StockRoom(world / "repo").close()
    with StockRoom.init(world / "repo") as stock:
        assert stock.settings["user.name"] == "a" or not list_done(state, "init")
        assert "origin" in stock.remotes or not list_done(state, "remote")
        assert stock.branch == "dev" or not list_done(state, "checkout")
    check_repository(world / "repo", search_commits(state))


def copy(world: Path, name: str) -> StockRoom:
    settings = parse_remote_settings(str(world / "remote"), base=world)
    clone(settings, world / name, CloneOptions(metadata_only=True))
    return StockRoom(world / name, lazy=False)


def check_transfer(world: Path, state: State) -> None:
    pushed = {commit for (commit,) in list_done(state, "push")}
    if pushed:
        with copy(world, "other") as stock:
            assert pushed <= {commit.id for commit in stock.log()}
    with StockRoom(world / "repo") as stock:
        stock.push()
        head = stock.commit_id
    is_clone = (world / "clone/.stockroom/format").exists() and not (world / "clone/.stockroom/clone.json").exists()
    assert is_clone or not list_done(state, "clone")
    with StockRoom(world / "clone", lazy=False) if is_clone else copy(world, "clone") as stock:
        stock.fetch()
        assert stock.remote_branches["origin/main"] == head
        assert stock.verify().damage == []
    check_repository(world / "repo", search_commits(state))


def check_clear(world: Path, state: State) -> None:
    check_repository(world / "repo", search_commits(state))


WORKS = {
    "begin": (BEGIN, "empty", check_begin),
    "transfer": (TRANSFER, "small", check_transfer),
    "clear": (CLEAR, "waste", check_clear),
}


@pytest.mark.parametrize("work", WORKS)
def test_whatever_a_power_cut_leaves_is_whole_and_has_all_that_was_reported(worlds, place, work, capsys):
    code, beginning, check = WORKS[work]
    shutil.rmtree(place, ignore_errors=True)  # left by a failure
    shutil.copytree(worlds / beginning, place)
    states = list(iter_states(record_work(code, place)))
    chosen = random.Random(3).sample(states, min(STATES, len(states)))
    try_states(chosen, place, check)
    with capsys.disabled():
        print(f"\n{work}: {len(chosen)} of {len(states)} states")
