"""Eight processes read as fast as they can while one commits: no wrong value, nobody waits, nothing grows.

Five seconds in the suite; `STOCKROOM_HAMMER_S=60` for the whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom

SECONDS = float(os.environ.get("STOCKROOM_HAMMER_S", "5"))
READERS = 8
ROWS = 200
SLOWEST_READ_S = 5.0
"""Far above what eight readers on two busy processors wait for each other, far below a lock that is held."""

READER = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from stockroom import StockRoom

def measure():
    status = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return kib, len(os.listdir("/proc/self/fd"))

def read(stock):
    n = int(stock.data["n", 0])
    image = stock.data["image"]
    assert len(image) == rows
    batch = image.take([0, n % rows, rows - 1])
    assert (batch == n % 251).all(), (n, batch)
    assert stock.data["text"]["key"] == f"number {n} " + "x" * 50
    metric = stock.experiment["n"]
    assert metric == n, (metric, n)
    return n

path, seconds, rows = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
seen, slowest, reads, figures = 0, 0.0, 0, []
with StockRoom(path) as stock:
    print("reading", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        before = read(stock)
        if reads % 2:
            stock.refresh()
        else:
            stock.close()
            stock = StockRoom(path)
        after = read(stock)
        assert after >= before >= seen
        seen = before
        slowest = max(slowest, time.monotonic() - begin)
        reads += 1
        figures.append(measure())
    stock.close()
print(json.dumps([reads, seen, slowest, figures]))
"""


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_readers_hammer_while_a_writer_commits(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    StockRoom.init(root).close()
    with StockRoom(root, enable_write=True) as writer:
        write(writer, 0)
        words = [sys.executable, "-c", READER, str(root), str(SECONDS), str(ROWS)]
        readers = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(READERS)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("go\n")
            reader.stdin.close()
        begin, commits = time.monotonic(), 0
        while any(reader.poll() is None for reader in readers):
            commits += 1
            write(writer, commits)
        lasted_s = time.monotonic() - begin
    assert commits > lasted_s, "the writer was kept waiting"
    for reader in readers:
        assert reader.stdout is not None
        out = reader.stdout.read()
        reader.stdout.close()
        assert reader.returncode == 0
        reads, seen, slowest_s, figures = json.loads(out)
        assert reads >= 4
        assert seen > 0
        assert slowest_s < SLOWEST_READ_S
        check_flat(figures)
    with StockRoom(root) as stock:
        assert sum(1 for _ in stock.log()) == commits + 1
        assert stock.verify().ok


def write(writer: StockRoom, n: int) -> None:
    writer.data["n"] = [n]
    writer.data["image"] = np.full((ROWS, 64), n % 251, np.uint8)
    writer.data["text"] = {"key": f"number {n} " + "x" * 50}
    writer.experiment["n"] = n
    writer.commit(f"number {n}")


def check_flat(figures: list[tuple[int, int]]) -> None:
    """That the second half of a run takes no more handles than the first, and hardly more memory."""
    half = len(figures) // 2
    memory, handles = zip(*figures, strict=True)
    assert max(handles[half:]) <= max(handles[:half]) + 64  # packs that were opened, up to a bound of their own
    assert max(memory[half:]) < 1.3 * max(memory[:half]) + (16 << 10)
