"""The location index of up to 10^8 chunks: memory and time of what commits, gc and readers do with it.

The tables are generated: their packs are in the catalog and not on disk. Real small packs come on top. Each work runs
in a process of its own, `python benchmarks/scale_index.py WORK FOLDER`, which prints its figures as JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from row import BYTES, SECONDS, Row
from stockroom.digest import PackDigest
from stockroom.store.chunk_run import Stream
from stockroom.store.index.catalog import (
    TableRecord,
    add_pack,
    name_table,
    next_sequence,
    replace_tables,
)
from stockroom.store.index.location_table import ROW_BITS, encode_header
from stockroom.store.index.removed_packs import set_first
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

SMALL, LARGE = 2_000_000, 100_000_000
PARTS = (0.34, 0.28, 0.2, 0.1, 0.05, 0.03)
"""The tables' parts of all rows, oldest first: an index in which a merge of all large tables is due."""
MAX_NBYTES = 256 << 20
COMMITS = 50
_ROWS_PER_PACK = 1 << 18
_BLOCK_ROWS = 1 << 21
_STREAM = Stream("uint8", (40,), "raw")


def scale_index(folder: Path, *, sizes: Sequence[int] = (SMALL, LARGE)) -> Iterator[Row]:
    """Each work on indexes of `sizes` chunks: peak private memory, and CPU time beside that of the smallest."""
    first: dict[str, float] = {}
    for rows in sizes:
        root = folder / f"index-{rows}"
        make_index(root, rows)
        for work in WORKS:
            figures = run(work, root)
            name = f"{work}, {rows:,} chunks in the index"
            bound = 1.5 if work == "commit" else None
            at_most = None if bound is None or work not in first else bound * first[work]
            yield Row(f"{name}: cpu", SECONDS, figures["cpu_s"], limit=first.get(work), at_most=at_most)
            yield Row(f"{name}: peak private memory", BYTES, figures["private_nbytes"], at_most=MAX_NBYTES)
            first.setdefault(work, figures["cpu_s"])
        shutil.rmtree(root)


def make_index(root: Path, rows: int, *, parts: Sequence[float] = PARTS) -> None:
    """Make a store in `root` whose location tables have `rows` rows together, of packs that are not on disk."""
    with closing(TensorStore(root)) as store:
        for part in parts:
            count = int(rows * part)
            packs = -(-count // _ROWS_PER_PACK)
            random = np.random.default_rng(count)

            def add(txn, packs=packs, count=count, random=random):
                numbers = [add_pack(txn, PackDigest(random.bytes(32)))[0] for _ in range(packs)]
                record = TableRecord(sequence := next_sequence(txn), count, name_table(sequence), b"")
                _write_table(root / "index" / name_table(sequence), numbers[0], count, random)
                replace_tables(txn, [], [record])
                set_first(txn, record, numbers[0])

            store.catalog.update(add)


def _write_table(path: Path, first_pack: int, rows: int, random: np.random.Generator) -> None:
    header, step = encode_header(rows), 2**64 // (rows + 1)
    with path.open("wb") as file:
        file.write(header)
        for start in range(0, rows, _BLOCK_ROWS):  # ascending, so nothing is sorted: each in a span of its own
            index = np.arange(start, min(start + _BLOCK_ROWS, rows), dtype=np.uint64)
            file.write((index * np.uint64(step) + random.integers(0, step, len(index), np.uint64)).data)
        for start in range(0, rows, _BLOCK_ROWS):
            index = np.arange(start, min(start + _BLOCK_ROWS, rows), dtype=np.uint64)
            packs = np.uint64(first_pack) + index // np.uint64(_ROWS_PER_PACK)
            file.write(((packs << ROW_BITS) | (index % np.uint64(_ROWS_PER_PACK))).data)


def commit(store: TensorStore) -> float:
    """Return the CPU seconds of writing one small pack and registering it: the mean of many."""
    random = np.random.default_rng(time.time_ns())
    rows = random.integers(0, 256, (COMMITS, 40), np.uint8)
    _put(store, random.integers(0, 256, (1, 40), np.uint8))  # loads code
    start = time.process_time()
    for row in rows:
        _put(store, row[None])
    return (time.process_time() - start) / COMMITS


def find(store: TensorStore) -> float:
    """Return the CPU seconds of the first look-up of 256 chunks, most of which no pack holds."""
    digests = np.random.default_rng(1).integers(0, 256, (256, 32), np.uint8)
    start = time.process_time()
    store.contains(digests)
    return time.process_time() - start


def unregister(store: TensorStore) -> float:
    """Return the CPU seconds of taking ten packs, of 2.6 million chunks or all, out of the index."""
    numbers = sorted(store.catalog.read_packs())[:10]
    start = time.process_time()
    store.index.unregister(numbers)
    return time.process_time() - start


def merge(store: TensorStore) -> float:
    """Return the CPU seconds of merging all large tables, as gc does."""
    start = time.process_time()
    assert store.index.merge()
    return time.process_time() - start


WORKS: dict[str, Callable[[TensorStore], float]] = {
    "commit": commit,
    "find": find,
    "unregister": unregister,
    "merge": merge,
}


def run(work: str, root: Path) -> dict[str, float]:
    """Return the figures of `work` on the store in `root`, measured in a process of its own."""
    words = [sys.executable, __file__, work, str(root)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _put(store: TensorStore, rows: np.ndarray) -> None:
    with closing(TensorWriter(store)) as writer:
        writer.put_rows(rows, _STREAM)
        writer.flush()


@contextmanager
def _watch_memory(figures: dict[str, float]) -> Iterator[None]:
    """Note the most private memory that this process has during the block, beyond what it had before."""
    done = threading.Event()
    before = _read_private()

    def watch() -> None:
        while not done.wait(0.005):
            figures["private_nbytes"] = max(figures["private_nbytes"], _read_private() - before)

    figures["private_nbytes"] = 0
    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    done.set()
    watcher.join()


def _read_private() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    figures: dict[str, float] = {}
    with closing(TensorStore(Path(sys.argv[2]))) as store, _watch_memory(figures):
        figures["cpu_s"] = WORKS[sys.argv[1]](store)
    print(json.dumps(figures))
