"""Gc, repair, merges, sessions, deleted branches and undo, killed at random instants: nothing reported is ever lost.

`STOCKROOM_UPKEEP_KILLS` sets how many kills (12), `STOCKROOM_KILL_SEED` the instants (0). Beside every third victim
another process collects with no grace period, so that what killed writers left is swept while the next one works.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
from tests.integration.test_kill_campaign import Campaign, Victim

from stockroom import StockRoom

KILLS = int(os.environ.get("STOCKROOM_UPKEEP_KILLS", "12"))
SEED = int(os.environ.get("STOCKROOM_KILL_SEED", "0"))
LONGEST_S = 0.5

COMMON = """
import os, sys
import numpy as np
from contextlib import suppress
from datetime import timedelta
from stockroom import LockedError, StockRoom

path, way, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
NOW = timedelta(0)

def pool(n):
    return np.random.default_rng(n % 9).integers(0, 256, (20, 400), np.uint8)
"""

WORKER = (
    COMMON
    + """
def commit(stock, n):
    with stock.enable_write(f"{way} {n}"):
        stock.data["number"] = [n]
        stock.data[f"column{n % 4}"] = pool(n)
    print(stock.commit_id, flush=True)

def waste(stock, n):
    stock.checkout(f"waste{way}{n}-{os.getpid()}", create=True)
    with stock.enable_write("waste"):
        stock.data["waste"] = pool(n + 1)
        stock.data["more"] = np.random.default_rng(n).integers(0, 256, (9, 900), np.uint8)
    stock.checkout("main")
    stock.delete_branch(f"waste{way}{n}-{os.getpid()}", force=True)

def turn(stock, n):
    if way == "gc" or way == "repack":
        waste(stock, n)
        with suppress(LockedError):
            stock.gc(grace=NOW, repack=way == "repack")
    elif way == "repair":
        with suppress(LockedError):
            left = stock.repair().left
            assert left == [], left
    elif way == "merge":
        stock.checkout(f"side{n}-{os.getpid()}", create=True)
        with stock.enable_write("side"):
            stock.data["side"] = pool(n)
        stock.checkout("main")
        with stock.enable_write(f"main {n}"):
            stock.data["number"] = [n]
        stock.merge(f"side{n}-{os.getpid()}", message=f"merge {n}")
        print(stock.commit_id, flush=True)
        stock.delete_branch(f"side{n}-{os.getpid()}", force=True)
        return
    elif way == "undo":
        stock.checkout(f"undone{n}-{os.getpid()}", create=True)
        with stock.enable_write("undone"):
            stock.data["undone"] = pool(n)
        stock.checkout("main")
        stock.delete_branch(f"undone{n}-{os.getpid()}", force=True)
        stock.undo()
        stock.delete_branch(f"undone{n}-{os.getpid()}", force=True)
    commit(stock, n)

def sessions():
    n = number
    with StockRoom(path) as stock:
        while True:
            n += 1
            with stock.session("main", name="mine" if n % 2 else None, message=f"session {n}") as session:
                session.data["number"] = [n]
                session.data[f"column{n % 4}"] = pool(n)
                if n % 3 == 0:
                    session.flush()
                print(session.commit(f"session {n}"), flush=True)

with StockRoom(path) as stock:
    stock.reset()
    stock.checkout("main")
    print("in", flush=True)
    n = number
    while way != "session":
        n += 1
        turn(stock, n)
sessions()
"""
)

COLLECTOR = (
    COMMON
    + """
with StockRoom(path) as stock:
    print("in", flush=True)
    while True:
        number += 1
        with suppress(LockedError):
            stock.gc(grace=NOW, repack=number % 5 == 0)
"""
)

WAYS = ["gc", "repack", "repair", "merge", "undo", "session"]


def pool(n):
    return np.random.default_rng(n % 9).integers(0, 256, (20, 400), np.uint8)


def check_content(stock, message):
    way, _, number = message.partition(" ")
    n = int(number)
    assert int(stock.data["number", 0]) == n
    if way == "main":  # what was to be merged into it held nothing new
        return
    assert np.array_equal(stock.data["side" if way == "merge" else f"column{n % 4}"][:], pool(n))


def inspect(path, campaign, reported):
    """Look for losses after a kill; the greatest number used so far."""
    with StockRoom(path) as stock:
        log = {commit.id: commit.message for commit in stock.log("main")}
        campaign.losses += [commit for commit in campaign.reported + reported if commit not in log]
        campaign.reported += reported
        report = stock.verify()
        assert report.damage == []
    for commit in reported[-2:]:
        with StockRoom(path, ref=commit) as stock:
            check_content(stock, log[commit])
    numbers = [int(words[1]) for words in map(str.split, log.values()) if len(words) == 2 and words[1].isdecimal()]
    return max(numbers, default=0)


def start_collector(path, number):
    command = [sys.executable, "-c", COLLECTOR, str(path), "collect", str(number)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def stop_collector(process):
    assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def test_no_kill_of_upkeep_loses_a_commit(tmp_path, capsys):
    rng = random.Random(SEED)
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock, stock.enable_write("start"):
        stock.data["number"] = [0]
    campaign, newest = Campaign(), 0
    for turn in range(KILLS):
        way = WAYS[turn % len(WAYS)] if turn < len(WAYS) else rng.choice(WAYS)
        collector = start_collector(path, turn) if turn % 3 == 0 else None
        victim = Victim(path, way, newest, WORKER)
        victim.hear_first(commits=turn % 2)  # every other one gets somewhere, however busy the machine is
        victim.hear_until(time.monotonic() + rng.uniform(0, LONGEST_S))
        reported = victim.kill()
        campaign.kills += 1
        if collector is not None:
            stop_collector(collector)
            campaign.kills += 1
        newest = inspect(path, campaign, reported)
    with StockRoom(path) as stock:
        messages = {commit.id: commit.message for commit in stock.log("main")}
    for commit in rng.sample(campaign.reported, min(30, len(campaign.reported))):
        with StockRoom(path, ref=commit) as stock:
            check_content(stock, messages[commit])
    with capsys.disabled():
        print(
            f"\n{campaign.kills} kills of upkeep, {len(campaign.reported)} commits reported, "
            f"{len(campaign.losses)} losses (seed {SEED})"
        )
    assert campaign.losses == []
    assert len(campaign.reported) >= KILLS // 2
