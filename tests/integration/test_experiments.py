"""Experiments through kills and clones: what was committed or flushed stands, and curves need no data."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import run_stock

from stockroom import AbsentDataError, StockRoom

TRAIN = """
import sys
from stockroom import StockRoom
with StockRoom() as stock:
    with stock.enable_write("first"):
        stock.experiment["lr"] = 0.1
        for step in range(1000):
            stock.experiment.log({"loss": 1.0}, step)
writer = StockRoom(enable_write=True)
writer.experiment["lr"] = 0.2
writer.experiment.log({"loss": 2.0}, 1000)
if sys.argv[1] == "flush":
    writer.flush()
writer.experiment["lr"] = 0.3
for step in range(1000, 200_000):
    writer.experiment.log({"loss": 3.0}, step)
writer.experiment.artifact("log.txt", b"x" * 100_000)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("flushes", [False, True], ids=["nothing flushed", "flushed once"])
def test_a_kill_before_the_commit_loses_only_what_was_not_flushed(tmp_path: Path, flushes: bool) -> None:
    StockRoom.init(tmp_path).close()
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, "flush" if flushes else "none"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(60) == -signal.SIGKILL
    with StockRoom(tmp_path) as reader:
        assert reader.experiment["lr"] == 0.1
        assert reader.experiment.metrics["loss"].values.tolist() == [1.0] * 1000
        assert len(reader.experiment.artifacts) == 0
        assert reader.status().clean is not flushes
        assert reader.verify().ok
    with StockRoom(tmp_path, enable_write=True) as next_writer:
        assert next_writer.experiment["lr"] == (0.2 if flushes else 0.1)
        steps, values = next_writer.experiment.metrics["loss"]
        assert len(steps) == (1001 if flushes else 1000)
        assert set(values[1000:].tolist()) == ({2.0} if flushes else set())


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of metadata only, with nobody left to ask: ten runs, their values, curves and an artifact."""
    with StockRoom.init(tmp_path / "source") as source:
        for number in range(10):
            with source.enable_write(f"Run {number}"):
                source.experiment.update(
                    lr=10.0**-number, nested={"a": [1, 2], "w": np.ones((64, 64))}, note="y" * 9000
                )
                source.experiment["large"] = {"text": "x" * 20_000, "small": number}
                for step in range(3000):
                    source.experiment.log({"loss": math.exp(-step / 1000) + number, "acc": step}, step)
                source.experiment.artifact("model.bin", np.random.default_rng(number).bytes(100_000))
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only=True).close()
    (tmp_path / "remote").rename(tmp_path / "away")
    return tmp_path / "clone"


def test_a_clone_of_metadata_shows_every_curve_and_fetches_nothing(clone: Path) -> None:
    with StockRoom(clone) as stock:
        table = stock.experiment.table()
        assert [row.values["lr"] for row in table] == [10.0**-number for number in range(9, -1, -1)]
        assert [row.values["large.small"] for row in table] == list(range(9, -1, -1))
        assert str(table[0].values["nested.w"]) == "float64 (64, 64)"
        assert [row.metrics["loss"].min for row in table.sort("loss")] == [
            math.exp(-2.999) + number for number in range(10)
        ]
        assert len(table.filter("lr < 0.0015 and loss > 4")) == 6
        assert table.changed_only().columns == ["large.small", "lr", "loss"]
        assert np.array_equal(table[3].metrics["acc"].series.values, np.arange(3000))
        steps, values = stock.experiment.metrics["loss"]
        assert len(steps) == len(values) == 3000
        assert stock.experiment["lr"] == 1e-9
        assert stock.experiment["note"] == "y" * 9000
        artifact = stock.experiment.artifacts["model.bin"]
        assert (artifact.nbytes, artifact.media_type) == (100_000, "application/octet-stream")
        with pytest.raises(AbsentDataError):
            artifact.read()
    for words in (["show", "--all"], ["show", "--metrics", "best"], ["plot", "loss", "HEAD~3"], ["ls"]):
        done = run_stock(clone, "exp", *words)
        assert (done.returncode, done.stderr) == (0, "")
    with StockRoom(clone) as stock:
        presence = stock.measure_presence()
        assert (presence.present_nbytes, presence.packs > 0) == (0, True)


def test_an_artifact_and_a_large_value_come_when_they_are_read(clone: Path) -> None:
    (clone.parent / "away").rename(clone.parent / "remote")
    with StockRoom(clone) as stock:
        artifact = stock.experiment.artifacts["model.bin"]
        expected = np.random.default_rng(9).bytes(100_000)
        assert artifact.save(clone.parent / "model.bin").read_bytes() == expected
        assert artifact.read() == expected
        assert stock.experiment["nested"]["w"].sum() == 64 * 64
        assert stock.experiment["large"]["text"] == "x" * 20_000


def test_a_reader_beside_a_training_loop_sees_whole_commits_only(tmp_path: Path) -> None:
    StockRoom.init(tmp_path).close()
    program = """
from stockroom import StockRoom
with StockRoom() as stock:
    for epoch in range(20):
        with stock.enable_write(f"epoch {epoch}"):
            stock.experiment["epoch"] = epoch
            for step in range(500):
                stock.experiment.log({"loss": epoch, "acc": epoch}, step)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as trainer, StockRoom(tmp_path) as reader:
        seen = set()
        while trainer.poll() is None or "last" not in seen:
            if trainer.poll() is not None:
                seen.add("last")
            reader.refresh()
            if "epoch" in reader.experiment:
                epoch = reader.experiment["epoch"]
                seen.add(epoch)
                assert set(reader.experiment.metrics["loss"].values.tolist()) == {epoch}
                assert set(reader.experiment.metrics["acc"].values.tolist()) == {epoch}
                assert [row.values["epoch"] for row in reader.experiment.table()] == list(range(epoch, -1, -1))
        assert trainer.wait() == 0
    assert 19 in seen


def test_what_many_processes_log_in_turn_is_all_there(tmp_path: Path) -> None:
    StockRoom.init(tmp_path).close()
    program = """
import sys
from stockroom import StockRoom
with StockRoom() as stock, stock.enable_write(timeout_s=60):
    for step in range(1000):
        stock.experiment.log({f"loss/{sys.argv[1]}": step, "shared": int(sys.argv[1])}, step * 4 + int(sys.argv[1]))
"""
    workers = [subprocess.Popen([sys.executable, "-c", program, str(number)], cwd=tmp_path) for number in range(4)]
    assert [worker.wait(120) for worker in workers] == [0] * 4
    with StockRoom(tmp_path) as stock:
        steps, values = stock.experiment.metrics["shared"]
        assert np.array_equal(steps, np.arange(4000))
        assert np.array_equal(values, np.arange(4000) % 4)
        assert len(list(stock.log())) == 4


def test_a_forked_child_cannot_log_for_its_parent(tmp_path: Path) -> None:
    program = """
import json, os
from stockroom import ClosedError, StockRoom
with StockRoom.init() as stock, stock.enable_write():
    stock.experiment.log({"loss": 1.0}, 0)
    if (child := os.fork()) == 0:
        try:
            stock.experiment.log({"loss": 2.0}, 1)
        except ClosedError:
            os._exit(7)
        os._exit(0)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert json.loads(done.stdout) == 7
    with StockRoom(tmp_path) as stock:
        assert stock.experiment.metrics["loss"].values.tolist() == [1.0]
