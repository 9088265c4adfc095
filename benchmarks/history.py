"""Commits, opening, checkout and diff: what must cost the same whatever the size of the data.

The columns have 200,000 and 2,000,000 samples of 40 bytes, each a chunk under its digest like one of 3 KiB: trees,
chunk lists and indexes are those of a 6 GB column, without its 6 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from materials import TINY_NBYTES, History, Materials, write_durably
from row import BYTES, SECONDS, Row
from stockroom import StockRoom
from storage import list_records, list_written_files, read_written_nbytes
from timing import WARM_UP_ROUNDS, Call, Pair

ROUNDS = 31


def commit_one_change(materials: Materials) -> Iterator[Row]:
    """A write block that changes one sample, from entering it to the durable commit; and the metadata it adds."""
    for count in materials.sizes.histories:
        history = materials.open_history(count)
        with StockRoom(history.path) as stock:
            before = _list_metadata(history.path)
            pair = _time_commits(materials, stock, history)
            added = {name: n for name, n in _list_metadata(history.path).items() if name not in before}
        work = f"commit after changing 1 sample of {count:,}"
        yield _bound_time(work, pair, at_most=10e-3)
        per_commit = sum(added.values()) / (ROUNDS + WARM_UP_ROUNDS)
        yield Row(f"{work}: new metadata", BYTES, per_commit, at_most=64 << 10, rounds=ROUNDS)


def open_and_read(materials: Materials) -> Iterator[Row]:
    """Opening a repository in a running process and reading its first sample."""

    def close(stock: object) -> None:
        assert isinstance(stock, StockRoom)
        stock.close()

    for count in materials.sizes.histories:
        path = materials.open_history(count).path
        times = materials.stopwatch.repeat(partial(open_first, path), rounds=ROUNDS, after=close)
        yield Row(f"open, read the first of {count:,}", SECONDS, times.median_s, at_most=15e-3, rounds=ROUNDS)


def checkout(materials: Materials) -> Iterator[Row]:
    """Checkout to and fro between two commits, and the bytes given to the operating system to write for it."""
    for count in materials.sizes.histories:
        with StockRoom(materials.open_history(count).path) as stock:
            pair = _compare_with_floor(materials, partial(_check_out_either, stock))
            written = max(_count_written(stock, name) for name in ("before", "after") * 5)
            stock.checkout("main")
        yield _bound_time(f"checkout between commits of {count:,}", pair, at_most=5e-3)
        yield Row(f"checkout between commits of {count:,}: written", BYTES, written, at_most=1023, rounds=10)


def diff_ten_changes(materials: Materials) -> Iterator[Row]:
    """The keys that differ between two commits 10 changes apart, by a handle that has read nothing yet."""
    count = materials.sizes.histories[-1]
    path = materials.open_history(count).path
    opened: list[StockRoom] = [StockRoom(path)]

    def list_changes(_: int) -> list[object]:
        return list(opened[0].diff("before", "after")["data/sample"].changed)

    def reopen(changed: object) -> None:
        assert isinstance(changed, list)
        assert len(changed) == 10
        opened.pop().close()
        opened.append(StockRoom(path))

    times = materials.stopwatch.repeat(list_changes, rounds=ROUNDS, after=reopen)
    opened.pop().close()
    yield Row(f"diff of commits 10 changes apart in {count:,}", SECONDS, times.median_s, at_most=20e-3, rounds=ROUNDS)


def _compare_with_floor(materials: Materials, product: Call) -> Pair:
    """The product beside the least that anything durable costs: one small file, written and synced."""
    path = materials.folder / "one-small-file"
    return materials.stopwatch.compare(lambda _: write_durably(path), product, rounds=ROUNDS)


def _bound_time(work: str, pair: Pair, *, at_most: float) -> Row:
    return Row(work, SECONDS, pair.product.median_s, pair.limit.median_s, at_most=at_most, rounds=ROUNDS)


def open_first(path: Path, _: int) -> StockRoom:
    stock = StockRoom(path)
    sample: NDArray[np.uint8] = stock.data["sample"][0]
    assert sample.nbytes == TINY_NBYTES
    return stock


def _time_commits(materials: Materials, stock: StockRoom, history: History) -> Pair:
    keys = materials.random.integers(0, history.count, ROUNDS + WARM_UP_ROUNDS).tolist()
    samples = [materials.make_tiny() for _ in keys]

    def change(number: int) -> None:
        with stock.enable_write("Change one sample") as writer:
            writer.data["sample"][keys[number]] = samples[number]

    return materials.stopwatch.compare(
        lambda _: write_durably(materials.folder / "one-small-file"), change, rounds=ROUNDS
    )


def _list_metadata(path: Path) -> dict[str, int]:
    """Sizes of all metadata: records of names and history at rest, chunk lists and `zarr.json` of packs."""
    return list_records(path) | list_written_files(path / ".stockroom" / "packs")


def _check_out_either(stock: StockRoom, number: int) -> None:
    stock.checkout(("before", "after")[number % 2])


def _count_written(stock: StockRoom, name: str) -> int:
    start = read_written_nbytes()
    stock.checkout(name)
    return read_written_nbytes() - start
