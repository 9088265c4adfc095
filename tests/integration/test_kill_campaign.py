"""Writers killed at random instants, again and again on one repository: nothing reported as committed is ever lost.

`STOCKROOM_KILLS` sets how many kills (20), `STOCKROOM_KILL_SEED` the instants (0).
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.kit.states import assert_same

from stockroom import StockRoom

KILLS = int(os.environ.get("STOCKROOM_KILLS", "20"))
SEED = int(os.environ.get("STOCKROOM_KILL_SEED", "0"))
PATIENCE_S = 60

WRITER = """
import sys
import numpy as np
from stockroom import StockRoom

path, way, number = sys.argv[1], sys.argv[2], int(sys.argv[3])

def sample(n):
    return np.full((4, 100), n, np.int32)

def weights(n):
    layers = {f"layer.{k}": np.arange(k * n, k * n + 300_000, dtype=np.float32) for k in range(6)}
    return {"model": layers, "large": np.arange(n, n + (1 << 20), dtype=np.int64), "step": n}

def change(stock, n):
    data = stock.data
    if way == "samples":
        for offset in range(50):
            data["sample"][n * 50 + offset] = sample(n * 50 + offset)
    elif way == "bulk":
        data["bulk"] = np.broadcast_to(np.arange(2000, dtype=np.int32)[:, None] + n, (2000, 100))
        data["large"] = np.full((1, 5 << 20), n % 251, np.uint8) + np.arange(5 << 20).astype(np.uint8)
    elif way == "import":
        data["sample"].update((n * 50 + k, sample(n * 50 + k)) for k in range(50))
        data["label"] = [f"label {n}"] * 3000
    elif way == "model":
        stock.model.save("net", weights(n), number=n)
        stock.model[f"small {n % 5}"] = {"n": n}
    else:
        data["sample"][n * 50] = sample(n * 50)
    data["number"] = [n]

with StockRoom(path, enable_write=True, timeout_s=0) as stock:
    print("in", flush=True)
    while True:
        number += 1
        change(stock, number)
        if number % 3 == 0:
            stock.flush()
        commit = stock.commit(f"{way} {number}")
        print(commit, flush=True)
"""

WAYS = ["samples", "bulk", "import", "commits", "model"]


@dataclass
class Campaign:
    """What the killed writers reported, and what became of it."""

    reported: list[str] = field(default_factory=list)
    kills: int = 0
    finished_unreported: int = 0
    losses: list[str] = field(default_factory=list)


class Victim:
    """A writer in a process of its own."""

    def __init__(self, path, way, number, code=WRITER):
        arguments = [sys.executable, "-c", code, str(path), way, str(number)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, bufsize=0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._heard = b""

    def hear_until(self, deadline):
        """The lines said until then."""
        while (left_s := deadline - time.monotonic()) > 0 and self._selector.select(left_s):
            said = os.read(self._process.stdout.fileno(), 1 << 16)
            if not said:
                break
            self._heard += said
        return self._lines()

    def hear_first(self, commits=0):
        """Wait until it is in, and has reported `commits`."""
        while self._heard.count(b"\n") <= commits:
            assert self._selector.select(PATIENCE_S), "the writer did not get in" if not self._heard else "no commit"
            said = os.read(self._process.stdout.fileno(), 1 << 16)
            assert said, "the writer failed"
            self._heard += said
        assert self._lines()[0] == "in"

    def kill(self):
        """Kill it; everything it had said."""
        self._process.send_signal(signal.SIGKILL)
        self._heard += self._process.stdout.read()
        assert self._process.wait(PATIENCE_S) == -signal.SIGKILL, "the writer failed before it was killed"
        self._process.stdout.close()
        self._selector.close()
        return self._lines()[1:]

    def _lines(self):
        whole, _, _ = self._heard.rpartition(b"\n")
        return whole.decode().split("\n") if whole else []


def expect_sample(n):
    return np.full((4, 100), n, np.int32)


def expect_weights(n):
    layers = {f"layer.{k}": np.arange(k * n, k * n + 300_000, dtype=np.float32) for k in range(6)}
    return {"model": layers, "large": np.arange(n, n + (1 << 20), dtype=np.int64), "step": n}


def check_content(stock, message):
    """The content of a commit, by the number in its message."""
    way, _, number = message.partition(" ")
    n = int(number)
    assert int(stock.data["number", 0]) == n
    if way == "bulk":
        assert np.array_equal(stock.data["bulk"][::500][:, 0], np.arange(0, 2000, 500) + n)
        large = np.full(5 << 20, n % 251, np.uint8) + np.arange(5 << 20).astype(np.uint8)
        assert np.array_equal(stock.data["large"][0], large)
    elif way == "import":
        assert list(stock.data["label"].values())[::1000] == [f"label {n}"] * 3
    elif way == "model":
        assert_same(stock.model["net"].load(), expect_weights(n))
        assert stock.model["net"].metadata == {"number": n}
        assert stock.model[f"small {n % 5}"]["n"] == n
    if way not in ("bulk", "model"):
        count = 1 if way == "commits" else 50
        keys = range(n * 50, n * 50 + count)
        assert np.array_equal(stock.data["sample"][list(keys)], np.stack([expect_sample(key) for key in keys]))


def inspect(path, campaign, newly_reported):
    """Look for losses after a kill; the number of the newest commit."""
    with StockRoom(path) as stock:
        log = {commit.id: commit.message for commit in stock.log()}
        campaign.losses += [commit for commit in campaign.reported + newly_reported if commit not in log]
        campaign.reported += newly_reported
        campaign.finished_unreported = len(log) - 1 - len(campaign.reported)
        assert stock.commit_id == next(iter(log))
        assert stock.branches["main"] == stock.commit_id
        report = stock.verify()
        assert report.damage == []
    for commit in [*newly_reported[-2:], next(iter(log))]:
        if log[commit] != "start":
            with StockRoom(path, ref=commit) as stock:
                check_content(stock, log[commit])
    newest = next(iter(log.values()))
    return 0 if newest == "start" else int(newest.split()[1])


@pytest.mark.parametrize(
    ("ways", "kills", "longest_s"), [(WAYS, KILLS, 0.35), (["model"], 10, 0.6)], ids=["all", "models"]
)
def test_no_kill_loses_a_commit(tmp_path, capsys, ways, kills, longest_s):
    rng = random.Random(SEED)
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock, stock.enable_write("start"):
        stock.data.create("sample", dtype="int32", shape=(4, 100))
    campaign, newest, awaited = Campaign(), 0, 0
    victim = Victim(path, ways[0], newest)
    for kill in range(kills):
        victim.hear_first(commits=kill % 2)  # every other one gets somewhere, however busy the machine is
        awaited += kill % 2
        victim.hear_until(time.monotonic() + rng.uniform(0, longest_s) ** rng.choice([1, 2]))
        reported = victim.kill()
        campaign.kills += 1
        newest = inspect(path, campaign, reported)
        victim = Victim(path, rng.choice(ways), newest)  # gets in at once, with timeout_s=0, and goes on
    victim.hear_first()
    victim.kill()
    with StockRoom(path) as stock:
        for commit in rng.sample(campaign.reported, min(40, len(campaign.reported))):
            with StockRoom(path, ref=commit) as reader:
                check_content(reader, message_of(stock, commit))
    with capsys.disabled():
        print(
            f"\n{campaign.kills} kills, {len(campaign.reported)} commits reported, "
            f"{campaign.finished_unreported} finished unreported, {len(campaign.losses)} losses (seed {SEED})"
        )
    assert campaign.losses == []
    assert len(campaign.reported) >= awaited


def message_of(stock, commit):
    return next(stock.log(commit, n=1)).message
