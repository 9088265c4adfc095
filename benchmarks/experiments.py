"""Experiments: logging from a training loop, and comparing a thousand commits."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from materials import Materials
from row import BYTES, RATE, SECONDS, Row
from stockroom import StockRoom
from stockroom.cli import main

VALUES = 30
POINTS = 10
ROUNDS = 5
MAX_LOG_NBYTES = 128 << 20


def log_calls(materials: Materials) -> Iterator[Row]:
    """`log` of two values with a step, in a plain loop, in a process of its own; and the memory that takes."""
    calls = materials.sizes.logged
    rounds = [_log(materials.folder, calls // 4) for _ in range(ROUNDS)]
    rate, whole = (sorted(calls // 4 / each[name] for each in rounds)[ROUNDS // 2] for name in ("looped_s", "whole_s"))
    work = f"log, 2 values a call, {calls // 4:,} calls"
    yield Row(work, RATE, rate, at_least=50_000, rounds=ROUNDS)
    yield Row(f"{work}, with the commit", RATE, whole, at_least=50_000, rounds=ROUNDS)
    for count in (calls // 2, calls):
        grown = _log(materials.folder, count)["above_start_nbytes"]
        yield Row(f"log, memory of {count:,} calls", BYTES, grown, at_most=MAX_LOG_NBYTES)


def exp_show(materials: Materials) -> Iterator[Row]:
    """`stock exp show` of many commits of 30 values and 2 metrics, whose values differ in one or two each."""
    commits = materials.sizes.runs
    path = _make_runs(materials.folder / "runs", commits)
    words = ["-C", str(path), "exp", "show"]
    shown = io.StringIO()

    def compare(_: int) -> None:
        with StockRoom(path) as stock:
            table = stock.experiment.table()
            assert (len(table), len(table.value_columns)) == (commits, VALUES)

    def show(_: int) -> None:
        shown.seek(0)
        shown.truncate()
        with redirect_stdout(shown):
            assert main(words) == 0

    def show_anew(_: int) -> None:
        done = subprocess.run([sys.executable, "-m", "stockroom.cli", *words], capture_output=True, check=True)
        assert done.stdout.count(b"\n") == commits + 1

    work = f"exp show of {commits:,} commits of {VALUES} values"
    for name, call, target in (
        ("the table", compare, 1.0),
        ("table and text", show, 1.0),
        ("a process of its own", show_anew, None),
    ):
        times = materials.stopwatch.repeat(call, rounds=ROUNDS)
        yield Row(f"{work}: {name}", SECONDS, times.median_s, at_most=target, rounds=ROUNDS)
    assert shown.getvalue().count("\n") == commits + 1
    shutil.rmtree(path)


def _log(folder: Path, calls: int) -> dict[str, float]:
    fresh = folder / "logged"
    program = Path(__file__).with_name("logged_calls.py")
    done = subprocess.run([sys.executable, str(program), str(fresh), str(calls)], capture_output=True, check=True)
    shutil.rmtree(fresh)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _make_runs(path: Path, commits: int) -> Path:
    """A repository with a history of runs: each sets one or two values anew and logs two metrics."""
    chance = random.Random(5)
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock:
        for number in range(commits):
            with stock.enable_write(f"Run {number}"):
                if not number:
                    stock.experiment.update({f"value{at:02}": chance.random() for at in range(VALUES)})
                for _ in range(1 + number % 2):
                    stock.experiment[f"value{chance.randrange(VALUES):02}"] = chance.random()
                for step in range(POINTS):
                    stock.experiment.log({"loss": chance.random(), "acc": chance.random()}, step)
    return path
