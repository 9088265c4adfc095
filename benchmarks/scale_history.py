"""What a commit, a checkout, an opening, a difference and a merge cost in columns of 2,000,000 and of 10^8 samples.

Both must cost the same. Each repository has int64 labels, which are inline, and samples of 40 bytes, each a chunk. And
what a push costs after a change of every label. All times are CPU seconds of this process.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from row import SECONDS, Row
from stockroom import StockRoom

SMALL, LARGE = 2_000_000, 100_000_000
LABELS: Final = (1_000_000, 4_000_000)
SAMPLE_NBYTES: Final = 40
GROWTH: Final = 1.5
PUSH_GROWTH: Final = 4.5
"""For four times the labels."""
ROUNDS: Final = 9
PUSHES: Final = 5
CHANGES, BRANCH_CHANGES = 10, 100
_AT_ONCE: Final = 1 << 20


def scale_history(folder: Path, *, sizes: Sequence[int] = (SMALL, LARGE)) -> Iterator[Row]:
    """Each work in repositories of `sizes` samples, beside the same work in the first of them."""
    first: dict[str, float] = {}
    for count in sizes:
        path = make_history(folder / f"history-{count}", count)
        for work, measure in WORKS.items():
            cpu_s = measure(path, count)
            at_most = GROWTH * first[work] if work in first else None
            yield Row(f"{work}, {count:,} samples: cpu", SECONDS, cpu_s, first.get(work), at_most=at_most)
            first.setdefault(work, cpu_s)
        shutil.rmtree(path)


def scale_push(folder: Path, *, sizes: Sequence[int] = LABELS) -> Iterator[Row]:
    """A push after all labels have changed, for each number of labels."""
    first: float | None = None
    for count in sizes:
        cpu_s = statistics.median([push_relabelled(folder / f"push-{count}", count) for _ in range(PUSHES)])
        at_most = None if first is None else PUSH_GROWTH * first
        yield Row(f"push after changing {count:,} labels: cpu", SECONDS, cpu_s, first, at_most=at_most)
        first = cpu_s if first is None else first


def make_history(path: Path, count: int) -> Path:
    """Make a repository of `count` labels and samples.

    The branches `before` and `after` differ in 10 samples; `left` and `right` have 100 changes each.
    """
    random = np.random.default_rng(count)
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock:
        with stock.enable_write("all"):
            label = stock.data.create("label", dtype="int64", shape=())
            sample = stock.data.create("sample", dtype="uint8", shape=(SAMPLE_NBYTES,), codec="raw")
            for start in range(0, count, _AT_ONCE):
                rows = min(_AT_ONCE, count - start)
                label.extend(random.integers(0, 1000, rows))
                sample.extend(np.frombuffer(random.bytes(rows * SAMPLE_NBYTES), np.uint8).reshape(rows, SAMPLE_NBYTES))
        stock.create_branch("before")
        change_some(stock, random.choice(count, CHANGES, replace=False))
        stock.create_branch("after")
        for branch, parity in (("left", 0), ("right", 1)):
            stock.create_branch(branch, "main")
            stock.checkout(branch)
            change_some(stock, 2 * random.choice(count // 2, BRANCH_CHANGES, replace=False) + parity)
        stock.checkout("main")
    return path


def change_some(stock: StockRoom, keys: Sequence[int]) -> None:
    """Change the labels and the samples under some keys, in one commit."""
    with stock.enable_write("some"):
        for key in map(int, keys):
            stock.data["label"][key] = np.int64(-key - time.process_time_ns() % 1000)
            stock.data["sample"][key] = np.frombuffer(np.random.default_rng().bytes(SAMPLE_NBYTES), np.uint8)


def measure_commit(path: Path, count: int) -> float:
    """Return the CPU seconds of a commit that changes one sample and its label."""
    with StockRoom(path) as stock:
        return measure_cpu(lambda number: change_some(stock, [count // ROUNDS * (number % ROUNDS)]))


def measure_checkout(path: Path, _: int) -> float:
    """Return the CPU seconds of a checkout between two commits."""
    with StockRoom(path) as stock:
        cpu_s = measure_cpu(lambda number: stock.checkout(("before", "after")[number % 2]))
        stock.checkout("main")
        return cpu_s


def measure_opening(path: Path, _: int) -> float:
    """Return the CPU seconds from opening a repository to its first sample."""

    def open_first(_: int) -> None:
        with StockRoom(path) as stock:
            stock.data["sample"][0]
            stock.data["label"][0]

    return measure_cpu(open_first)


def measure_diff(path: Path, _: int) -> float:
    """Return the CPU seconds of listing 10 changes, by a handle that has read nothing."""

    def list_changes(_: int) -> None:
        with StockRoom(path) as stock:
            diff = stock.diff("before", "after")
            assert [len(list(diff[f"data/{name}"].changed)) for name in ("sample", "label")] == [CHANGES] * 2

    return measure_cpu(list_changes)


def measure_merge(path: Path, _: int) -> float:
    """Return the CPU seconds of a merge of two branches with 100 changes each; every merge is taken back."""
    with StockRoom(path) as stock:
        stock.checkout("left")

    def merge(_: int) -> float:
        with StockRoom(path) as stock:
            start_s = time.process_time()
            assert stock.merge("right").outcome == "merged"
            cpu_s = time.process_time() - start_s
            stock.undo()
        return cpu_s

    return statistics.median([merge(number) for number in range(ROUNDS)][1:])


WORKS: Final[dict[str, Callable[[Path, int], float]]] = {
    "commit of one change": measure_commit,
    "checkout": measure_checkout,
    "opening and first sample": measure_opening,
    f"diff of {CHANGES} changes": measure_diff,
    f"merge of {BRANCH_CHANGES} and {BRANCH_CHANGES} changes": measure_merge,
}


def push_relabelled(path: Path, count: int) -> float:
    """Return the CPU seconds of the second push of a column of labels, all of which have changed."""
    random = np.random.default_rng(count)
    with StockRoom.init(path / "repository", name="Bench", email="bench@example.org") as stock:
        with stock.enable_write("labels"):
            stock.data["label"] = random.integers(0, 1000, count)
        stock.add_remote("bench", str(path / "remote"))
        stock.push("bench", "main")
        with stock.enable_write("other labels"):
            stock.data["label"] = random.integers(1000, 2000, count)
        start_s = time.process_time()
        stock.push("bench", "main")
        cpu_s = time.process_time() - start_s
    shutil.rmtree(path)
    return cpu_s


def measure_cpu(work: Callable[[int], object]) -> float:
    """Return the median CPU seconds of a work, after one round that does not count."""
    seconds = []
    for number in range(ROUNDS + 1):
        start_s = time.process_time()
        work(number)
        seconds.append(time.process_time() - start_s)
    return statistics.median(seconds[1:])
