"""Push, clone, fetch, prefetch, lazy readers, the agent and gc of a remote, killed at random instants: nothing is lost,
and the same command then completes.

`STOCKROOM_KILLS` sets how many kills (12), `STOCKROOM_KILL_SEED` the instants (0).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import STOCK, find_agents

from stockroom import StockRoom

KILLS = int(os.environ.get("STOCKROOM_KILLS", "12"))
SEED = int(os.environ.get("STOCKROOM_KILL_SEED", "0"))
COUNT = 3000

READ = """
import sys
import numpy as np
from stockroom import StockRoom
with StockRoom(sys.argv[1]) as stock:
    column = stock.data["image"]
    for start in range(0, len(column), 50):
        batch = column[start : start + 50]
        assert (batch == expected(start, len(batch))).all()
"""
EXPECTED = """
import numpy as np
def expected(start, count):
    return (np.arange(start, start + count)[:, None] * 7 + np.arange(2000)) % 251
"""


def expected(start: int, count: int) -> np.ndarray:
    return (np.arange(start, start + count)[:, None] * 7 + np.arange(2000)) % 251


@dataclass
class Campaign:
    """A source, its remote, a clone, and what is done to them until something is killed."""

    root: Path
    random: random.Random
    kills: int = 0
    durations_s: dict[str, float] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def remote(self) -> Path:
        return self.root / "remote"

    @property
    def clone(self) -> Path:
        return self.root / "clone"

    def change(self, number: int) -> None:
        """A commit in the source, with bytes that are new."""
        with StockRoom(self.source) as stock, stock.enable_write(f"Change {number}"):
            stock.data[f"extra{number % 3}"] = np.random.default_rng(number).integers(
                0, 256, (200, 3000), dtype=np.uint8
            )
            stock.data["label"][number] = number

    def run(self, name: str, command: list[str], *, victim: Callable[[], int | None] | None = None) -> bool:
        """Run a command, kill it, or another process, at a random instant of its usual time; whether it was killed."""
        usual_s = self.durations_s.setdefault(name, 0.4)
        start_s = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=self.random.uniform(0.05, usual_s * 1.05))
        except subprocess.TimeoutExpired:
            target = process.pid if victim is None else victim()
            if target is not None:
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
                    self.kills += 1
            _, errors = process.communicate(timeout=60)
            if victim is None:
                return True
        else:
            self.durations_s[name] = (time.monotonic() - start_s + usual_s) / 2
        assert process.returncode == 0, errors
        return False

    def finish(self, command: list[str]) -> None:
        """The same command, undisturbed, completes."""
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def check(path: Path, commit: str | None) -> None:
    """The repository is whole, and every image is right."""
    with StockRoom(path) as stock:
        assert stock.commit_id == commit
        assert np.array_equal(np.asarray(stock.data["image"]), expected(0, COUNT))
        report = stock.verify()
        assert report.ok, report.damage


def attack_push(campaign: Campaign, number: int) -> None:
    campaign.change(number)
    command = [*STOCK, "-C", str(campaign.source), "push"]
    campaign.run("push", command)
    with StockRoom(campaign.source) as stock:
        theirs = stock.remote_branches.get("origin/main")
        assert theirs is None or theirs in [commit.id for commit in stock.log()]
    campaign.finish(command)


def attack_clone(campaign: Campaign, number: int) -> None:
    path = campaign.root / f"whole-{number}"
    command = [*STOCK, "clone", str(campaign.remote), str(path)]
    campaign.run("clone", command)
    if (path / ".stockroom/format").exists() and not (path / ".stockroom/clone.json").exists():
        command = [*STOCK, "-C", str(path), "prefetch"]  # it had done all it does
    campaign.finish(command)
    with StockRoom(campaign.source) as stock:
        check(path, stock.remote_branches["origin/main"])
    shutil.rmtree(path)


def attack_fetch(campaign: Campaign, number: int) -> None:
    campaign.change(number)
    campaign.finish([*STOCK, "-C", str(campaign.source), "push"])
    command = [*STOCK, "-C", str(campaign.clone), "pull"]
    campaign.run("pull", command)
    campaign.finish(command)
    with StockRoom(campaign.source) as stock, StockRoom(campaign.clone) as clone:
        assert clone.commit_id == stock.commit_id
        assert clone.data["label"][number] == number


def attack_reader(campaign: Campaign, number: int) -> None:
    command = [sys.executable, "-c", EXPECTED + READ, str(campaign.clone)]
    with StockRoom(campaign.clone) as clone:
        clone.drop()
    campaign.run("read", command)
    campaign.finish(command)


def attack_agent(campaign: Campaign, number: int) -> None:
    command = [sys.executable, "-c", EXPECTED + READ, str(campaign.clone)]
    with StockRoom(campaign.clone) as clone:
        clone.drop()
    campaign.run("read with agent", command, victim=lambda: next(iter(find_agents(campaign.clone)), None))
    with StockRoom(campaign.clone) as clone:
        assert clone.verify().ok
    campaign.finish(command)


def attack_gc_of_the_remote(campaign: Campaign, number: int) -> None:
    """A branch that was pushed and deleted leaves bytes there, which gc takes; all else is whole."""
    with StockRoom(campaign.source) as stock:
        name = f"side{number}"
        stock.checkout(name, create=True)
        with stock.enable_write("Side"):
            stock.data["side"] = np.random.default_rng(10**6 + number).integers(0, 256, (100, 3000), dtype=np.uint8)
        stock.push()
        stock.checkout("main")
        stock.push(ref=f":{name}")
        stock.delete_branch(name, force=True)
    command = [*STOCK, "-C", str(campaign.source), "gc", "--remote", "--grace", "0"]
    campaign.run("gc of the remote", command)
    campaign.finish(command)
    path = campaign.root / f"collected-{number}"
    with StockRoom(campaign.source) as stock, StockRoom.clone(str(campaign.remote), path) as clone:
        assert clone.commit_id == stock.remote_branches["origin/main"]
        assert clone.verify().ok
    shutil.rmtree(path)


ATTACKS = (attack_push, attack_clone, attack_fetch, attack_reader, attack_agent, attack_gc_of_the_remote)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    campaign = Campaign(tmp_path, random.Random(SEED))
    with StockRoom.init(campaign.source) as source:
        with source.enable_write("Images"):
            source.data["image"] = expected(0, COUNT).astype(np.uint8)
            source.data["label"] = np.arange(COUNT)
        source.add_remote("origin", str(campaign.remote))
        source.push()
    StockRoom.clone(str(campaign.remote), campaign.clone, metadata_only=True).close()
    return campaign


def test_whatever_is_killed_nothing_is_lost(campaign: Campaign) -> None:
    number = 0
    while campaign.kills < KILLS:
        number += 1
        assert number < 20 * KILLS, f"only {campaign.kills} of {KILLS} kills in {number} rounds"
        ATTACKS[number % len(ATTACKS)](campaign, number)
    with StockRoom(campaign.source) as stock:
        commit = stock.commit_id
    campaign.finish([*STOCK, "-C", str(campaign.source), "push"])
    campaign.finish([*STOCK, "-C", str(campaign.clone), "pull"])
    check(campaign.source, commit)
    check(campaign.clone, commit)
    with StockRoom.clone(str(campaign.remote), campaign.root / "last") as last:
        check(last.path, commit)
    print(f"{campaign.kills} kills in {number} rounds, nothing lost")
