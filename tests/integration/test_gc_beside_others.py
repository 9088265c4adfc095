"""Gc runs again and again with no grace period, beside writers, sessions and readers in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from stockroom import LockedError, NotFoundError, StockRoom

NOW = timedelta(0)
LONG_S = 4.0

COMMON = """
import sys, time
import numpy as np
from stockroom import StockRoom, StockroomError, LockedError

path, seed, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
rng = np.random.default_rng(seed)

def pool(n):  # few different contents: writers meet what was dropped before
    return np.random.default_rng(n % 12).integers(0, 256, (20, 500), np.uint8)
"""

WRITER = (
    COMMON
    + """
n = 0
with StockRoom(path) as stock:
    while time.monotonic() < until:
        n += 1
        name = f"w{n}"
        stock.checkout(name, create=True)
        with stock.enable_write(f"bulk {n}"):
            stock.data["bulk"] = pool(int(rng.integers(12)))
            stock.data["own"] = rng.integers(0, 256, (5, 700), np.uint8)
        stock.checkout("main")
        if n % 3:
            stock.delete_branch(name, force=True)
            if n % 3 == 1:
                with StockRoom(path, enable_write=True) as staged:
                    staged.data["bulk"] = pool(int(rng.integers(12)))
                    staged.reset()
        else:
            kept = int(rng.integers(12))
            with stock.enable_write(f"keep {kept}"):
                stock.data["kept"] = pool(kept)
            print(stock.commit_id, kept, flush=True)
"""
)

SESSIONS = (
    COMMON
    + """
with StockRoom(path) as stock:
    n = 0
    while time.monotonic() < until:
        n += 1
        which = int(rng.integers(12))
        try:
            with stock.session("side", message=f"side {n}") as session:
                session.data[f"s{seed}"] = pool(which)
                if n % 4 == 0:
                    raise ValueError
        except ValueError:
            continue
        print(session_commit := stock.branches["side"], which, flush=True)
"""
)

READER = (
    COMMON
    + """
reads = 0
with StockRoom(path, ref="main") as stock:
    first = stock.data["base"]
    expected = pool(3)
    while time.monotonic() < until:
        assert (first.take(rng.integers(0, 20, 8)).shape) == (8, 500)
        assert (first[:] == expected).all()
        stock.refresh()
        if "kept" in stock.data:
            number = int(next(stock.log(stock.commit_id, n=1)).message.split()[1])
            assert (stock.data["kept"][:] == pool(number)).all()
        reads += 1
print(reads, flush=True)
"""
)


def pool(n):
    return np.random.default_rng(n % 12).integers(0, 256, (20, 500), np.uint8)


def start(code, path, seed):
    command = [sys.executable, "-c", code, str(path), str(seed), str(LONG_S)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [line.split() for line in out.splitlines()]


def collect(path, processes, *, repack):
    """Gc for as long as any of them is at work; what went."""
    went = {"packs": 0, "commits": 0, "held": 0, "runs": 0, "repacked": 0}
    with StockRoom(path) as stock:
        while any(process.poll() is None for process in processes):
            try:
                report = stock.gc(grace=NOW, repack=repack and went["runs"] % 4 == 3)
            except LockedError:
                continue
            went["runs"] += 1
            for name in ("packs", "commits", "held", "repacked"):
                went[name] += getattr(report, name)
    return went


@pytest.mark.parametrize("repack", [False, True])
def test_nothing_committed_is_lost_and_readers_never_notice(tmp_path, capsys, repack):
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock:
        with stock.enable_write("keep 3"):
            stock.data["base"] = pool(3)
            stock.data["kept"] = pool(3)
        stock.create_branch("side")
    processes = [start(WRITER, path, 1), start(SESSIONS, path, 2), start(SESSIONS, path, 3), start(READER, path, 4)]
    went = collect(path, processes, repack=repack)
    written, first, second, reads = (finish(process) for process in processes)
    with capsys.disabled():
        print(f"\n{went}; {len(written)} writes, {len(first) + len(second)} sessions, {reads[0][0]} reads")
    assert went["packs"] > 0
    assert went["commits"] > 0
    with StockRoom(path) as stock:
        report = stock.verify()
        assert report.damage == []
        on_main = {commit.id for commit in stock.log("main")}
        assert {commit for commit, _ in written} <= on_main
    for commit, number in written:
        with StockRoom(path, ref=commit) as stock:
            assert (stock.data["kept"][:] == pool(int(number))).all()
    with StockRoom(path, ref="side") as stock:
        for seed, done in ((2, first), (3, second)):
            assert (stock.data[f"s{seed}"][:] == pool(int(done[-1][1]))).all()
    with StockRoom(path) as stock:
        stock.gc(grace=NOW)
        assert stock.verify().damage == []


def test_a_commit_goes_with_its_last_reader_and_arrays_stay(tmp_path):
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock:
        with stock.enable_write("base"):
            stock.data["base"] = pool(1)
        stock.checkout("dead", create=True)
        with stock.enable_write("dead"):
            stock.data["dead"] = pool(2)
        reader = StockRoom(path, ref="dead")
        view = reader.data["dead"].view(3)
        batch = reader.data["dead"].take(np.arange(20))
        stock.checkout("main")
        stock.delete_branch("dead", force=True)
        assert stock.gc(grace=NOW).packs == 0
        reader.close()
        assert stock.gc(grace=NOW).packs == 1
        assert (view == pool(2)[3]).all()
        assert (batch == pool(2)).all()
        with pytest.raises(NotFoundError):
            StockRoom(path, ref="dead")


def test_a_pack_that_gc_removed_and_a_writer_writes_again_is_not_removed_by_its_old_mark(tmp_path):
    rows = np.random.default_rng(5).integers(0, 256, (20, 400), np.uint8)
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write("begin"):
            stock.data["number"] = [0]
        stock.checkout("waste", create=True)
        with stock.enable_write("waste"):
            stock.data["waste"] = rows
        stock.checkout("main")
        stock.delete_branch("waste", force=True)
        assert stock.gc(grace=timedelta(0)).packs > 0
        with stock.session(message="the same rows again") as session, StockRoom(stock.path) as other:
            session.data["rows"] = rows
            session.flush()  # the pack is in its place again, and only this session knows it
            other.gc(grace=timedelta(0))
        stock.refresh()
        assert np.array_equal(stock.data["rows"][:], rows)
        assert stock.verify().damage == []
