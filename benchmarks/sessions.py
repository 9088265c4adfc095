"""Sessions: processes that commit to one branch at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from materials import Materials
from row import RATE, Row
from stockroom import StockRoom
from writing import FreshRepository

PROCESSES = 4
COMMITTER = """
import sys, time
from stockroom import StockRoom

path, number, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with StockRoom(path) as stock, stock.session() as session:
    print("ready", flush=True)
    sys.stdin.readline()
    done, end_s = 0, time.monotonic() + seconds
    while time.monotonic() < end_s:
        session.data["x"][(number + 1) * 1_000_000 + done] = done
        session.commit(f"{number}/{done}")
        done += 1
    print(done, flush=True)
"""


def side_by_side(materials: Materials) -> Iterator[Row]:
    """4 processes that commit disjoint keys to one branch for 20 s: commits a second together, none lost."""
    seconds = materials.sizes.session_s
    with FreshRepository(materials.folder) as fresh:
        with fresh.stock.enable_write("Begin"):
            fresh.stock.data["x"] = np.arange(1000)
        done = _commit_together(fresh.folder, seconds)
        kept = _count_kept(fresh.folder, done)
        lost = sum(done) - kept
    yield Row(
        f"{PROCESSES} processes committing disjoint keys for {seconds:g} s", RATE, sum(done) / seconds, at_least=100
    )
    yield Row("... commits lost", "commits", lost, at_most=0)


def _commit_together(path: Path, seconds: float) -> list[int]:
    """How many commits each process reports."""
    commands = [[sys.executable, "-c", COMMITTER, str(path), str(n), str(seconds)] for n in range(PROCESSES)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [int(worker.communicate()[0]) for worker in workers]


def _count_kept(path: Path, done: list[int]) -> int:
    """How many of the reported commits are in the history, with the key each of them set."""
    with StockRoom(path) as stock:
        messages = {commit.message for commit in stock.log("main")}
        keys = set(stock.data["x"].keys())
    reported = [(number, count) for number, total in enumerate(done) for count in range(total)]
    return sum(
        f"{number}/{count}" in messages and (number + 1) * 1_000_000 + count in keys for number, count in reported
    )
