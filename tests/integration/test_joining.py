"""Small packs are joined after commits: by sessions side by side, under readers, killed anywhere, and before a push."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta

import numpy as np
import pytest
from tests.integration.test_crash_points import run, spread

from stockroom import StockRoom
from stockroom.store.index.small_packs import FANOUT
from stockroom.store.upkeep.removal import forbid_removal


def row(number):
    return np.random.default_rng(number).integers(0, 256, (1, 400), np.uint8)


def rows(count):
    return np.concatenate([row(number) for number in range(count)])


def extend(stock, numbers):
    for number in numbers:
        with stock.enable_write(f"row {number}"):
            stock.data["row"].extend(row(number))


def count_packs(path):
    return len(list((path / ".stockroom" / "packs").glob("*/*/chunks")))


@pytest.fixture(scope="module")
def almost(tmp_path_factory):
    """A repository whose next commit makes enough small packs to join them."""
    path = tmp_path_factory.mktemp("joining") / "repo"
    with StockRoom.init(path) as stock:
        with stock.enable_write("row 0"):
            stock.data["row"] = row(0)
        extend(stock, range(1, FANOUT - 1))
    assert count_packs(path) == FANOUT - 1
    return path


@pytest.fixture
def repo(almost, tmp_path):
    return shutil.copytree(almost, tmp_path / "repo")


SESSION = """
import sys
import numpy as np
from stockroom import StockRoom

path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with StockRoom(path) as stock, stock.session("main") as session:
    for number in range(first, first + count):
        sys.stdin.readline()
        session.data["row"].extend(np.random.default_rng(number).integers(0, 256, (1, 400), np.uint8))
        session.commit(f"row {number}")
        print("done", flush=True)
"""


def test_sessions_side_by_side_leave_few_packs(repo):
    count = FANOUT + 2
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SESSION, str(repo), str(first), str(count)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for first in (1000, 2000)
        ]
        for _ in range(count):
            for session in sessions:
                session.stdin.write("\n")
                session.stdin.flush()
                assert session.stdout.readline() == "done\n"
    assert count_packs(repo) <= FANOUT
    with StockRoom(repo) as stock:
        numbers = [*range(FANOUT - 1)]
        assert (stock.data["row"][: FANOUT - 1] == np.concatenate([row(number) for number in numbers])).all()
        assert len(stock.data["row"]) == FANOUT - 1 + 2 * count
        assert stock.verify().damage == []


def test_readers_of_any_commit_go_on_while_packs_are_joined(repo):
    with StockRoom(repo) as old, StockRoom(repo) as stock:
        before = old.data["row"]
        assert (before[3] == row(3)[0]).all()
        extend(stock, range(FANOUT - 1, 3 * FANOUT))
        assert count_packs(repo) < FANOUT
        assert (before[:] == rows(FANOUT - 1)).all()
        assert (stock.data["row"].take(range(3 * FANOUT)) == rows(3 * FANOUT)).all()


def test_gc_keeps_a_pack_that_was_joined_after_it_loaded_the_tables(repo):
    with StockRoom(repo) as stock, StockRoom(repo) as other:
        with forbid_removal(stock._repository.tensors, timeout_s=0):
            extend(stock, range(FANOUT - 1, FANOUT))  # nothing is joined yet
        other.refresh()
        assert (other.data["row"][:] == rows(FANOUT)).all()
        with stock.enable_write("no sample"):
            stock.data["label"] = [1]
        assert count_packs(repo) == 1
        assert other.gc(grace=timedelta(0)).packs == 0
        assert (stock.data["row"][:] == rows(FANOUT)).all()
        assert stock.verify().damage == []


JOIN = """
with StockRoom(path, enable_write=True, timeout_s=0) as stock:
    watch_all()
    stock.data["row"].extend(np.random.default_rng(NUMBER).integers(0, 256, (1, 400), np.uint8))
    repository = stock._pin.workspace.repository
    join, repository.join_packs = repository.join_packs, lambda: None
    print("done", stock.commit("last"), count, flush=True)
    join()
    print("all", count, flush=True)
"""


def test_a_join_that_stops_anywhere_loses_nothing_and_is_finished_by_later_commits(almost, tmp_path):
    code = JOIN.replace("NUMBER", str(FANOUT - 1))
    stopped, said = run(code, shutil.copytree(almost, tmp_path / "count"), -1)
    assert not stopped
    first, last = int(said[2]), int(said[-1])
    for point in spread(last - first, 6):
        path = shutil.copytree(almost, tmp_path / f"at{point}")
        stopped, said = run(code, path, first + point)
        assert stopped
        assert said[:1] == ["done"]
        with StockRoom(path) as stock:
            assert stock.commit_id == said[1]
            assert (stock.data["row"][:] == rows(FANOUT)).all()
            assert stock.verify().damage == []
            extend(stock, range(FANOUT, FANOUT + 2))
            assert (stock.data["row"][:] == rows(FANOUT + 2)).all()
            assert stock.verify().damage == []
            stock.gc(repack=True)  # takes in packs that had left the catalog and not yet their places
        assert count_packs(path) <= 3
        assert not list((path / ".stockroom" / "tmp").glob("*/removed*"))
        shutil.rmtree(path)


def test_a_push_sends_few_packs_with_the_rows_of_its_commits_only(repo, tmp_path):
    with StockRoom(repo) as stock:
        stock.add_remote("origin", str(tmp_path / "remote"))
        stock.checkout("secret", create=True)
        extend(stock, range(FANOUT - 1, FANOUT))  # joined with the rows of main
        assert count_packs(repo) == 1
        stock.checkout("main")
        stock.push("origin", "main")
        assert pack_rows(tmp_path / "remote") == [FANOUT - 1]
        stock.checkout("secret")
        report = stock.push("origin", "secret")
        assert report.packs == 1
        assert pack_rows(tmp_path / "remote") == [1, FANOUT - 1]
        assert stock.verify().damage == []


def test_what_was_pushed_is_not_sent_again_with_what_is_joined_later_and_can_be_dropped(repo, tmp_path):
    with StockRoom(repo) as stock:
        stock.add_remote("origin", str(tmp_path / "remote"))
        stock.push("origin", "main")
        assert count_packs(repo) == 1
        assert pack_rows(tmp_path / "remote") == [FANOUT - 1]
        extend(stock, range(FANOUT - 1, 2 * FANOUT))
        assert count_packs(repo) < FANOUT
        stock.push("origin", "main")
        assert pack_rows(tmp_path / "remote") == [FANOUT - 1, FANOUT + 1]
        assert count_packs(repo) == 2
        assert stock.drop().kept == 0
        assert (stock.data["row"][:] == rows(2 * FANOUT)).all()


def push_one_by_one(path, remote, count):
    """A remote with a pack for each of `count` pushes."""
    with StockRoom.init(path) as stock:
        stock.add_remote("origin", str(remote))
        with stock.enable_write("row 0"):
            stock.data["row"] = row(0)
        stock.push("origin", "main")
        for number in range(1, count):
            extend(stock, [number])
            stock.push("origin", "main")
    assert pack_rows(remote) == [1] * count


def test_a_repack_of_a_remote_joins_its_packs_and_leaves_out_what_nothing_needs(tmp_path):
    path, remote = tmp_path / "repo", tmp_path / "remote"
    push_one_by_one(path, remote, 5)
    with StockRoom(path) as stock:
        stock.checkout("side", create=True)
        with stock.enable_write("side"):
            stock.data["side"] = rows(9)[5:]
        stock.push("origin", "side")
        with stock.enable_write("side"):
            stock.data["side"] = rows(6)[5:]
        stock.push("origin", "side", force=True)
        assert pack_rows(remote) == [1] * 5 + [4]
        plan = stock.gc_remote(dry_run=True, repack=True)
        assert (plan.repacked, plan.made) == (6, 0)
        report = stock.gc_remote(grace=timedelta(0), repack=True)
        assert (report.repacked, report.made, report.packs) == (6, 1, 6)
        assert pack_rows(remote) == [9]
        again = stock.gc_remote(grace=timedelta(0), repack=True)
        assert (again.repacked, again.packs) == (0, 0)
        assert (stock.data["side"][:] == rows(6)[5:]).all()
        stock.fetch("origin")
        extend(stock, [7])
        stock.push("origin", "side")
        assert stock.verify_remote("origin").damage == []
    with StockRoom.clone(str(remote), tmp_path / "clone") as clone:
        assert (clone.data["row"][:] == rows(5)).all()
        assert clone.verify().damage == []


@pytest.mark.parametrize("is_lazy", [False, True])
def test_clones_go_on_while_a_remote_is_repacked(tmp_path, is_lazy):
    path, remote = tmp_path / "repo", tmp_path / "remote"
    push_one_by_one(path, remote, 4)
    with StockRoom.clone(str(remote), tmp_path / "clone", is_lazy) as clone, StockRoom(path) as stock:
        assert (clone.data["row"][0] == row(0)[0]).all()
        stock.gc_remote(repack=True)
        assert pack_rows(remote) == [1] * 4 + [4]
        assert (clone.data["row"][:2] == rows(2)).all()  # within the grace period the old packs are there
        with clone.enable_write("the same rows again, which are stored in the old packs"):
            clone.data["twice"] = rows(2)
        stock.gc_remote(grace=timedelta(0))
        assert pack_rows(remote) == [4]
        clone.push("origin", "main")
        clone.fetch("origin")
        assert (clone.data["row"][:] == rows(4)).all()
        assert clone.verify_remote("origin").damage == []
    with StockRoom.clone(str(remote), tmp_path / "late") as late:
        assert (late.data["twice"][:] == rows(2)).all()
        assert (late.data["row"][:] == rows(4)).all()


@pytest.mark.parametrize("stage", ["repacking", "listing packs/", "removing"])
def test_two_repacks_of_one_remote_at_once_lose_nothing(tmp_path, stage):
    path, remote = tmp_path / "repo", tmp_path / "remote"
    push_one_by_one(path, remote, 4)
    with StockRoom.clone(str(remote), tmp_path / "clone") as other, StockRoom(path) as stock:
        with other.enable_write("more"):
            other.data["more"] = rows(7)[5:]
        met = []

        def meet(now, *_):
            if now == stage and not met:
                met.append(other.push("origin", "main"))
                met.append(other.gc_remote(grace=timedelta(0), repack=True))

        stock.gc_remote(grace=timedelta(0), repack=True, on_stage=meet)
        assert len(met) == 2
        stock.gc_remote(grace=timedelta(0), repack=True)
        assert stock.verify_remote("origin").damage == []
    with StockRoom.clone(str(remote), tmp_path / "late") as late:
        assert (late.data["row"][:] == rows(4)).all()
        assert (late.data["more"][:] == rows(7)[5:]).all()


def pack_rows(remote):
    from stockroom.store.pack.manifest import read_manifest

    return sorted(read_manifest(path.parent).rows for path in remote.glob("packs/*/*/chunks"))
