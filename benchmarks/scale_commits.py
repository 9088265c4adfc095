"""What many commits of one sample cost: files, disk, CPU of a commit, of the first batch, of gc, fsck, push and repack.

Times are CPU seconds of this process, since the machine may be shared.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom import StockRoom
from stockroom.store.chunk_run import Stream
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.repack import plan_repack, repack

SHAPE: Final = (3, 32, 32)
_BATCH: Final = 256
_FIRST_BATCH: Final = """
import sys, time
import numpy as np
from stockroom import StockRoom
np.random.default_rng(0)
start = time.process_time()
with StockRoom(sys.argv[1]) as stock:
    column = stock.data["image"]
    column.take(np.random.default_rng(1).integers(0, len(column), int(sys.argv[2])))
print(time.process_time() - start)
"""
_SESSION: Final = """
import sys
import numpy as np
from stockroom import StockRoom
path, first, count, seed = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(seed)
with StockRoom(path) as stock, stock.session("main") as session:
    for number in range(first, first + count):
        session.data["image"].extend(rng.integers(0, 256, (1, 3, 32, 32), np.uint8))
        session.data["label"].extend(np.array([number]))
        session.commit(f"sample {number}")
"""


@dataclass(frozen=True, slots=True)
class CommitsCost:
    """The cost of a repository of `commits` commits of one sample.

    Attributes:
        commits: how many commits.
        files, packs: files in the repository, and packs among them.
        packs_nbytes: disk bytes of the packs, as a multiple of the samples' bytes.
        metadata_nbytes: disk bytes of everything else, most of it in two LMDB environments.
        commit_s: CPU seconds of one commit.
        batch_s, gc_s, fsck_s: CPU seconds of the first batch of 256 in a new process, of a gc, and of an fsck.
    """

    commits: int
    files: int
    packs: int
    packs_nbytes: float
    metadata_nbytes: int
    commit_s: float
    batch_s: float
    gc_s: float
    fsck_s: float


def make_samples(count: int) -> NDArray[np.uint8]:
    """Return `count` random images."""
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def commit_one_by_one(path: Path, count: int) -> float:
    """Make a repository of `count` commits of an image and its label; return the CPU seconds of one commit."""
    samples = make_samples(count)
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock:
        with stock.enable_write("columns"):
            stock.data.create("image", dtype="uint8", shape=SHAPE)
            stock.data.create("label", dtype="int64", shape=())
        start_s = _read_cpu_s()
        for number in range(count):
            with stock.enable_write(f"sample {number}"):
                stock.data["image"].extend(samples[number : number + 1])
                stock.data["label"].extend(np.array([number]))
        return (_read_cpu_s() - start_s) / count


def commit_side_by_side(path: Path, count: int) -> float:
    """Make such a repository by two processes at once, each with a session; return the CPU seconds of one commit."""
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock, stock.enable_write("columns"):
        stock.data.create("image", dtype="uint8", shape=SHAPE)
        stock.data.create("label", dtype="int64", shape=())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    commands = [[sys.executable, "-c", _SESSION, path, start, count // 2, start] for start in (0, count)]
    processes = [subprocess.Popen(list(map(str, command))) for command in commands]
    assert [process.wait() for process in processes] == [0, 0]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count


def measure_commits(path: Path, count: int, commit_s: float) -> CommitsCost:
    """Return the cost of a repository made by one of the functions above."""
    root = path / ".stockroom"
    files = [file for file in root.rglob("*") if file.is_file()]
    packs_nbytes = _measure_disk([file for file in files if file.is_relative_to(root / "packs")])
    metadata_nbytes = _measure_disk(files) - packs_nbytes
    batch_s = _read_first_batch(path)
    with StockRoom(path) as stock:
        start_s = _read_cpu_s()
        stock.gc(grace=timedelta(0))
        gc_s = _read_cpu_s() - start_s
        start_s = _read_cpu_s()
        assert stock.verify().ok
        fsck_s = _read_cpu_s() - start_s
    return CommitsCost(
        commits=count,
        files=len(files),
        packs=len(list(root.glob("packs/*/*/chunks"))),
        packs_nbytes=packs_nbytes / (count * int(np.prod(SHAPE))),
        metadata_nbytes=metadata_nbytes,
        commit_s=commit_s,
        batch_s=batch_s,
        gc_s=gc_s,
        fsck_s=fsck_s,
    )


def _read_first_batch(path: Path) -> float:
    """Return the CPU seconds of the first batch in a new process, with bytecode, as an installed package has it."""
    command = [sys.executable, "-c", _FIRST_BATCH, str(path), str(_BATCH)]
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(path.parent / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return [
        float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        for _ in range(2)  # the first run writes the bytecode
    ][-1]


def push_all(path: Path, remote: Path) -> tuple[int, float]:
    """Push everything to a folder; return the number of packs there, and the CPU seconds."""
    with StockRoom(path) as stock:
        stock.add_remote("bench", remote)
        start_s = _read_cpu_s()
        stock.push("bench", stock.branch)
        return len(list(remote.glob("packs/*/*/chunks"))), _read_cpu_s() - start_s


def repack_small_packs(path: Path, count: int) -> float:
    """Return the CPU seconds of a repack of `count` packs of one sample, which were never joined."""
    store = TensorStore(path)
    writer = TensorWriter(store)
    for sample in make_samples(count):
        writer.put_row(sample.tobytes(), Stream("uint8", SHAPE, "raw"))
        writer.flush()
    writer.close()
    store.close()
    store = TensorStore(path)
    start_s = _read_cpu_s()
    report = repack(store, plan_repack(store))
    cpu_s = _read_cpu_s() - start_s
    assert len(report.removed) == count
    store.close()
    return cpu_s


def _read_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure_disk(files: list[Path]) -> int:
    return sum(file.stat().st_blocks * 512 for file in files)
