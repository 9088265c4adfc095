"""Checking a repository and giving back disk: fsck beside plain hashing, reads after a repack beside a fresh import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from materials import LARGE_SHAPE, SMALL_SHAPE, Materials
from row import BYTES, SECONDS, Row, compare_rates
from stockroom import StockRoom

ROUNDS = 5
TINY_PACKS = 2_000
ROWS_A_PACK = 25


def fsck(materials: Materials) -> Iterator[Row]:
    """`stock.verify()` of some GB, beside reading and hashing the same files with blake3 in one thread."""
    for shape, count in ((LARGE_SHAPE, materials.sizes.checked), (SMALL_SHAPE, materials.sizes.small)):
        path = materials.folder / f"checked-{shape[-1]}"
        with StockRoom.init(path) as stock:
            with stock.enable_write("samples"):
                column = stock.data.create("image", dtype="uint8", shape=shape)
                for start in range(0, count, 500):
                    column.extend(materials.make_samples(min(500, count - start), shape))
            files = [file for file in (path / ".stockroom" / "packs").rglob("*") if file.is_file()]
            nbytes = sum(file.stat().st_size for file in files)

            def check(_: int, stock: StockRoom = stock) -> object:
                report = stock.verify()
                assert report.ok
                return report.nbytes

            pair = materials.stopwatch.compare(lambda _, files=files: _hash(files), check, rounds=ROUNDS)
        work = f"fsck of {nbytes / 1e9:.2g} GB in samples of {shape}"
        if shape == LARGE_SHAPE:
            yield compare_rates(work, pair, at_least_ratio=0.6)
        else:
            yield Row(work, SECONDS, pair.product.median_s, limit=pair.limit.median_s, rounds=ROUNDS)
        shutil.rmtree(path)


def reads_after_repack(materials: Materials) -> Iterator[Row]:
    """Random batches of 256 from 2,000 tiny commits after `stock gc --repack`, beside a fresh bulk import."""
    packs = materials.sizes.tiny_packs
    samples = materials.make_samples(packs * ROWS_A_PACK, SMALL_SHAPE)
    fresh, worn = materials.folder / "fresh", materials.folder / "worn"
    with StockRoom.init(fresh) as stock, stock.enable_write("all at once"):
        stock.data["image"] = samples
    _write_in_pieces(worn, samples)
    with StockRoom(worn) as stock:
        before = [commit.id for commit in stock.log(n=5)]
        stock.gc(grace=timedelta(0), repack=True)
        assert len(list((worn / ".stockroom" / "packs").glob("*/*"))) <= len(samples) // ROWS_A_PACK // 100
        assert [commit.id for commit in stock.log(n=5)] == before
    for path in (fresh, worn):
        _read_in(path)
    with StockRoom(fresh) as one, StockRoom(worn) as other:
        first, second = one.data["image"], other.data["image"]
        batches = [materials.random.integers(0, len(samples), 256) for _ in range(64)]

        def read(column: object, number: int) -> None:
            positions = batches[number % len(batches)]
            assert (column.take(positions)[0] == samples[positions[0]]).all()  # type: ignore[attr-defined]

        pair = materials.stopwatch.compare(lambda n: read(first, n), lambda n: read(second, n), rounds=300)
    yield compare_rates(f"batches of 256 after gc --repack of {packs:,} packs", pair, at_least_ratio=0.9)
    shutil.rmtree(fresh)
    shutil.rmtree(worn)


def gc_memory(materials: Materials) -> Iterator[Row]:
    """Time and memory of a gc of a repository with very many samples, in a process of its own."""
    count = materials.sizes.histories[-1]
    path = materials.open_history(count).path
    code = (
        "import sys, time; from datetime import timedelta; from stockroom import StockRoom\n"
        "from stockroom.testing.peak_memory import read_peak_nbytes\n"
        "with StockRoom(sys.argv[1]) as stock:\n"
        "    stock.data['sample'][0]\n"
        "    before = read_peak_nbytes(); start = time.perf_counter()\n"
        "    stock.gc(grace=timedelta(0)); spent = time.perf_counter() - start\n"
        "    print(spent, read_peak_nbytes() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seconds, nbytes = map(float, done.stdout.split())
    yield Row(f"gc of {count:,} samples", SECONDS, seconds)
    yield Row(f"gc of {count:,} samples: memory", BYTES, nbytes, at_most=512 << 20)


def _read_in(path: Path) -> None:
    """Have the files come into the page cache anew, by reading: how they were written decides how pages lie there."""
    for file in (path / ".stockroom" / "packs").rglob("c.*"):
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        file.read_bytes()


def _hash(files: list[Path]) -> None:
    buffer = memoryview(bytearray(1 << 20))
    for path in files:
        digest = blake3()
        with path.open("rb", buffering=0) as file:
            while nbytes := file.readinto(buffer):
                digest.update(buffer[:nbytes])
        digest.digest()


def _write_in_pieces(path: Path, samples: NDArray[np.uint8]) -> None:
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock:
        with stock.enable_write("empty"):
            stock.data.create("image", dtype="uint8", shape=SMALL_SHAPE)
        with StockRoom(path, enable_write=True) as writer:
            for start in range(0, len(samples), ROWS_A_PACK):
                writer.data["image"].extend(samples[start : start + ROWS_A_PACK])
                writer.commit(f"from {start}")
