"""Traces six everyday flows through the package: how many of its functions are called, in how many modules.

    python benchmarks/flows.py

Each flow runs once before it is traced, so that imports and first openings are not counted.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType

import numpy as np

from stockroom import StockRoom

Step = Callable[[], object]


def main() -> None:
    """Print a line for each flow."""
    with tempfile.TemporaryDirectory(prefix="stockroom-flows-") as folder:
        print(f"{'flow':30} {'calls':>7} {'functions':>10} {'modules':>8}")
        for name, prepare, flow in iter_flows(Path(folder)):
            prepare()
            flow()
            prepare()
            calls = trace(flow)
            modules = {function.partition(":")[0] for function in calls}
            print(f"{name:30} {calls.total():7} {len(calls):10} {len(modules):8}")


def iter_flows(folder: Path) -> Iterator[tuple[str, Step, Step]]:
    """Name, preparation and flow, on a repository in `folder` of 20,000 samples."""
    rng, numbers = np.random.default_rng(0), count()
    stock = StockRoom.init(folder / "repository", name="Ada", email="ada@example.org")
    with stock.enable_write("first"):
        stock.data["image"] = rng.integers(0, 256, (20_000, 64), np.uint8)
        stock.data["label"] = np.arange(20_000)
    stock.add_remote("origin", str(folder / "remote"))
    stock.push()
    column, positions = stock.data["image"], rng.integers(0, 20_000, 256)
    column.take(positions)

    def open_and_read() -> None:
        with StockRoom(stock.path) as opened:
            opened.data["image"][7]

    def commit(key: int = 7) -> None:
        with stock.enable_write("change"):
            stock.data["label"][key] = -1 - next(numbers)

    def diverge() -> None:
        stock.checkout(f"side{next(numbers)}", create=True)
        commit(8)
        stock.create_tag(f"theirs{next(numbers)}")
        stock.checkout("main")
        commit()

    def clone() -> None:
        StockRoom.clone(str(folder / "remote"), folder / f"clone{next(numbers)}", metadata_only=True).close()

    def nothing() -> None:
        pass

    yield "open and read one sample", nothing, open_and_read
    yield "take a batch of 256", nothing, lambda: column.take(positions)
    yield "commit one changed sample", nothing, commit
    yield "merge two branches", diverge, lambda: stock.merge(max(stock.tags, key=lambda tag: int(tag[6:])))
    yield "push one commit", commit, stock.push
    yield "clone the metadata", nothing, clone


def trace(flow: Step) -> Counter[str]:
    """How often a flow calls each function of the package, by `module:function`."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("stockroom."):
            calls[f"{module}:{frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        flow()
    finally:
        sys.setprofile(None)
    return calls


if __name__ == "__main__":
    main()
