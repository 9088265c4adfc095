"""Columns of very many packs: batches, the first batch of a process, fsck, and samples read one by one, in CPU time.

The packs are small, so that thousands of them fit on a disk; a pack costs the same to open at any size. Each work runs
in a process of its own, `python benchmarks/scale_packs.py WORK FOLDER OPEN_FILES`, which prints its seconds.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from row import SECONDS, Row
from stockroom import StockRoom
from stockroom.store.chunk_run import Stream
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.removal import forbid_removal

SAMPLE_NBYTES = 3072
BATCH = 256
FEW_FILES, MANY_FILES = 256, 20_000
ONE_BY_ONE = 6000
_SAMPLES = 25_600


def scale_packs(folder: Path, *, packs: int = 1600, very_many: int = 10_000, checked: int = 1300) -> Iterator[Row]:
    """All rows, in a fresh `folder`; the targets are for the sizes given here."""
    few, many = (make_packs(folder / f"{count}", count, max(_SAMPLES // count, 2)) for count in (16, packs))
    limit, product = run("batches", few, MANY_FILES), run("batches", many, FEW_FILES)
    work = f"batch of {BATCH} from {packs:,} packs, {FEW_FILES} open files, beside 16 packs"
    yield Row(work, SECONDS, product, limit=limit, at_least_ratio=1 / 1.5)

    huge = make_packs(folder / f"{very_many}", very_many, 16)
    yield Row(f"first batch, {very_many:,} packs", SECONDS, run("first_batch", huge, MANY_FILES), at_most=0.3)
    shutil.rmtree(huge)

    columns = make_packs(folder / "columns", 80, 16, columns=7)
    yield Row("batches of 7 columns of 80 packs, 1,024 open files", SECONDS, run("batches", columns, 1024))

    sound = make_packs(folder / f"{checked}", checked, 16)
    limit, product = run("fsck", sound, MANY_FILES), run("fsck", sound, FEW_FILES)
    work = f"fsck of {checked:,} packs, {FEW_FILES} open files, beside {MANY_FILES:,}"
    yield Row(work, SECONDS, product, limit=limit, at_least_ratio=1 / 1.2)

    encoded = make_encoded(folder / "encoded")
    for column, at_most in (("lz4", 15e-6), ("zstd", 15e-6), ("blosc", 15e-6), ("text", 40e-6)):
        yield Row(f"one sample in order: {column}", SECONDS, run(f"one_by_one {column}", encoded), at_most=at_most)


def make_packs(root: Path, packs: int, rows: int, *, columns: int = 1) -> Path:
    """Make a repository of `columns`, each of `packs` packs of `rows` samples of 3 KiB."""
    StockRoom.init(root, name="n", email="e").close()
    for column in range(columns):
        samples = np.random.default_rng(column).integers(0, 256, (packs * rows, SAMPLE_NBYTES), np.uint8)
        with closing(TensorStore(root / ".stockroom")) as store, closing(TensorWriter(store)) as writer:
            for start in range(0, len(samples), rows):
                writer.put_rows(samples[start : start + rows], Stream("uint8", (SAMPLE_NBYTES,), "raw"))
                writer.flush()
            with forbid_removal(store, timeout_s=60), StockRoom(root) as stock, stock.enable_write("samples"):
                stock.data[f"image{column}"] = samples  # the packs hold all of them already
    assert sum(1 for _ in (root / ".stockroom" / "packs").glob("??/*")) == packs * columns
    return root


def make_encoded(root: Path) -> Path:
    """Make a repository of columns of each codec, and of text."""
    random = np.random.default_rng(0)
    samples = np.minimum(random.geometric(0.3, (ONE_BY_ONE, SAMPLE_NBYTES)), 255).astype(np.uint8)
    words = [random.bytes(4).hex() for _ in range(500)]
    with StockRoom.init(root, name="n", email="e") as stock, stock.enable_write("samples"):
        for number, codec in enumerate(("lz4", "zstd", "blosc")):
            column = stock.data.create(codec, dtype="uint8", shape=(SAMPLE_NBYTES,), codec=codec)
            column.extend(samples ^ np.uint8(number))
        chosen = random.integers(0, len(words), (ONE_BY_ONE, 40))
        stock.data["text"] = [" ".join(words[word] for word in line) for line in chosen.tolist()]
    return root


def run(work: str, root: Path, open_files: int = 1024) -> float:
    """Return the CPU seconds of one work on the repository in `root`, by a process that may open so many files."""
    words = [sys.executable, __file__, work, str(root), str(open_files)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _time_batches(stock: StockRoom, _: str) -> float:
    """CPU seconds of a shuffled batch once every sample was read before; of several columns, one batch of each."""
    columns = [stock.data[name] for name in stock.data]
    random = np.random.default_rng(1)
    for column in columns:
        for positions in np.array_split(random.permutation(len(column)), -(-len(column) // BATCH)):
            column.take(positions)

    def read() -> None:
        for column in columns:
            column.take(random.integers(0, len(column), BATCH))

    return min(_time(read, times=50) for _ in range(10))


def _time_first_batch(stock: StockRoom, _: str) -> float:
    column = stock.data["image0"]
    positions = np.random.default_rng(1).integers(0, len(column), BATCH)
    return _time(lambda: column.take(positions))


def _time_fsck(stock: StockRoom, _: str) -> float:
    def check() -> None:
        report = stock.verify()
        assert report.ok

    return _time(check)


def _time_one_by_one(stock: StockRoom, name: str) -> float:
    column = stock.data[name]

    def read() -> None:
        for key in range(len(column)):
            column[key]

    read()
    stock.data["lz4" if name != "lz4" else "zstd"].take(np.arange(ONE_BY_ONE))  # which takes the place of kept blocks
    return _time(read) / ONE_BY_ONE


def _time(act: Callable[[], object], *, times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times


WORKS: dict[str, Callable[[StockRoom, str], float]] = {
    "batches": _time_batches,
    "first_batch": _time_first_batch,
    "fsck": _time_fsck,
    "one_by_one": _time_one_by_one,
}


if __name__ == "__main__":
    work, _, argument = sys.argv[1].partition(" ")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = int(sys.argv[3]) if most == resource.RLIM_INFINITY else min(int(sys.argv[3]), most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    with StockRoom(sys.argv[2]) as opened:
        print(WORKS[work](opened, argument))
