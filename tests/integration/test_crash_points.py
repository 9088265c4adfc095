"""A process stops dead at every change of the disk in turn: each write, sync, rename, unlink and transaction.

Before and after each of them the child counts; at the n-th it is gone, without any clean-up. Whatever had been reported
as done by then holds, nothing is damaged, and the next writer gets in at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from stockroom import StockRoom

GONE = 77

HARNESS = """
import builtins, os, shutil, sys
import lmdb
import numpy as np
from datetime import timedelta
from pathlib import Path
from stockroom import StockRoom

path, stop_at = sys.argv[1], int(sys.argv[2])
count = 0

def point():
    global count
    count += 1
    if count == stop_at:
        os._exit(77)

def watch(module, name):
    original = getattr(module, name)
    def watched(*arguments, **options):
        point()
        result = original(*arguments, **options)
        point()
        return result
    setattr(module, name, watched)

def watch_all():
    for name in ("write", "pwrite", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "link", "ftruncate"):
        watch(os, name)
    update_once = SharedEnvironment._update_once
    def watched(self, fn):
        point()
        def inside(txn):
            result = fn(txn)
            point()  # all is written, nothing committed
            return result
        result = update_once(self, inside)
        point()
        return result
    SharedEnvironment._update_once = watched

from stockroom.kv.shared import SharedEnvironment

def pool(n):
    return np.random.default_rng(n).integers(0, 256, (30, 700), np.uint8)
"""

COMMIT = """
with StockRoom(path, enable_write=True, timeout_s=0) as stock:
    watch_all()
    stock.data["image"] = pool(2)
    stock.data["text"] = ["word " * (20 + k) for k in range(9)]
    stock.data["large"] = np.arange(5 << 18, dtype=np.int32).reshape(1, -1)
    stock.flush()
    stock.data["image"][3] = pool(7)[3]
    print(stock.commit("second"), flush=True)
    stock.data["image"][4] = pool(7)[4]
    print(stock.commit("third"), flush=True)
print("all", count, flush=True)
"""

GC = """
with StockRoom(path) as stock:
    watch_all()
    report = stock.gc(grace=timedelta(0), repack={repack})
    assert report.packs, report
print("all", count, flush=True)
"""

REPAIR = """
with StockRoom(path) as stock:
    watch_all()
    stock.repair()
print("all", count, flush=True)
"""


def pool(n):
    return np.random.default_rng(n).integers(0, 256, (30, 700), np.uint8)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("crash") / "repo"
    with StockRoom.init(path) as stock:
        with stock.enable_write("first"):
            stock.data["image"] = pool(1)
        for n in range(11, 15):
            with stock.enable_write(f"part {n}"):
                stock.data[f"part{n}"] = pool(n)
    return path


@pytest.fixture(scope="module")
def with_waste(original, tmp_path_factory):
    """Dead branches, and a branch of which only some rows are needed."""
    path = shutil.copytree(original, tmp_path_factory.mktemp("waste") / "repo")
    with StockRoom(path) as stock:
        for n in (21, 22):
            stock.checkout(f"dead{n}", create=True)
            with stock.enable_write("dead"):
                stock.data["dead"] = pool(n)
                stock.data["half"] = np.concatenate([pool(30), pool(31)])
            stock.checkout("main")
            stock.delete_branch(f"dead{n}", force=True)
        with stock.enable_write("half"):
            stock.data["half"] = pool(30)[:10]
    return path


def run(code, path, stop_at):
    """Whether it was stopped, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", HARNESS + code, str(path), str(stop_at)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, GONE), done.stderr
    return done.returncode == GONE, done.stdout.split()


def check(path, reported):
    with StockRoom(path) as stock:
        log = [commit.id for commit in stock.log()]
        assert set(reported) <= set(log)
        assert stock.commit_id == log[0] == stock.branches["main"]
        for n in range(11, 15):
            assert (stock.data[f"part{n}"][:] == pool(n)).all()
        if "half" in stock.data:
            assert (stock.data["half"][:] == pool(30)[:10]).all()
        assert stock.verify().damage == []
    for commit in reported:
        with StockRoom(path, ref=commit) as stock:
            expected = pool(2)
            expected[3] = pool(7)[3]
            if commit != reported[0]:
                expected[4] = pool(7)[4]
            assert (stock.data["image"][:] == expected).all()
    with StockRoom(path, enable_write=True, timeout_s=0) as stock:
        stock.reset()
        stock.data["next"] = pool(40)
        stock.commit("next")
    with StockRoom(path) as stock:
        assert stock.verify().damage == []


def spread(points, at_most):
    """All of the points, or so many of them, evenly, with the first and the last."""
    return sorted({round(x) for x in np.linspace(1, points, min(points, at_most))})


def count_points(code, path, tmp_path):
    copy = shutil.copytree(path, tmp_path / "count")
    stopped, said = run(code, copy, -1)
    assert not stopped
    return int(said[-1])


STOPS = int(os.environ.get("STOCKROOM_CRASH_POINTS", "16"))


@pytest.mark.parametrize("work", ["commit", "gc", "gc and repack", "repair"])
def test_wherever_it_stops_what_was_reported_holds_and_the_work_can_be_done_again(
    original, with_waste, tmp_path, capsys, work
):
    code = {
        "commit": COMMIT,
        "gc": GC.format(repack=False),
        "gc and repack": GC.format(repack=True),
        "repair": REPAIR,
    }[work]
    source = original if work == "commit" else with_waste
    points = count_points(code, source, tmp_path)
    chosen = spread(points, STOPS)
    for stop_at in chosen:
        path = shutil.copytree(source, tmp_path / f"at{stop_at}")
        stopped, said = run(code, path, stop_at)
        assert stopped, f"point {stop_at} of {points} was not reached"
        check(path, [word for word in said if len(word) == 64])
        if work.startswith("gc"):
            with StockRoom(path) as stock:
                stock.gc(grace=timedelta(0), repack="repack" in work)
                assert stock.verify().damage == []
                assert not [pack for pack in (path / ".stockroom" / "tmp").iterdir() if "removed" in pack.name]
            assert len(list((path / ".stockroom" / "packs").glob("*/*"))) <= 7
        shutil.rmtree(path)
    with capsys.disabled():
        print(f"\n{work}: stopped at {len(chosen)} of {points} points")
