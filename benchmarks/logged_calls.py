"""Logs metrics in a process of its own and prints, as JSON, calls a second and how much memory they took.

    python benchmarks/logged_calls.py FOLDER CALLS

Each call has two values and a step, as in a training loop. Memory is RssAnon of /proc/self/status: pages of the
database's file, which are the system's to drop, are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from stockroom import StockRoom


def read_private_nbytes() -> int:
    """The memory of its own that this process has resident now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def main(folder: str, calls: int) -> None:
    """Log into a new repository in `folder`, with the commit on the clock."""
    with StockRoom.init(folder, name="Bench", email="bench@example.org") as stock:
        with stock.enable_write("Warm up"):
            stock.experiment.log({"loss": 1.0, "acc": 0.0}, 0)
        before = read_private_nbytes()
        start = time.perf_counter()
        with stock.enable_write("Train"):
            for step in range(calls):
                stock.experiment.log({"loss": 1.0 / (step + 1), "acc": step / calls}, step=step)
            looped_s = time.perf_counter() - start
            looped_nbytes = read_private_nbytes()
        whole_s = time.perf_counter() - start
        grown = max(looped_nbytes, read_private_nbytes()) - before
        steps, values = stock.experiment.metrics["acc"]
        assert len(steps) == calls
        assert values[-1] == (calls - 1) / calls
        print(json.dumps({"looped_s": looped_s, "whole_s": whole_s, "above_start_nbytes": grown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
