"""Scenario A25: disks that fill, limits on open files: a clear error, nothing lost, and all works again."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork

from stockroom import StockRoom
from stockroom.cli import main
from stockroom.store.chunk_run import Stream
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

RNG = np.random.default_rng(25)
FIRST = RNG.integers(0, 256, (200, 1024), dtype=np.uint8)
MORE = RNG.integers(0, 256, (900, 1024), dtype=np.uint8)
LEFT_NBYTES = [0, 20 << 10, 200 << 10, 1 << 20]
"""Room on the disk when the command begins, from none at all to almost enough."""


@pytest.fixture
def small_disk(mount_disk: Callable[[str], Path]) -> Path:
    """A file system of 8 MB."""
    return mount_disk("8m")


def fill(folder: Path, *, but: int) -> Path:
    """A file that takes all the room there is but so many bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 4 << 10):
            with suppress(OSError):
                while True:
                    file.write(bytes(piece))
        file.truncate(max(file.tell() - but, 0))
    return filler


def call(root: Path, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command, run in a process of its own, which must not die of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            with redirect_stderr(StringIO()) as said:
                code = main(["-C", str(root), "--no-progress", *words])
            os.write(writing, said.getvalue().encode()[:60_000])
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said_there = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said_there


def check_said(code: int, said: str) -> None:
    """That a command succeeded, or failed with one line that names the cause and what to do."""
    if code:
        assert code == 1, said
        assert len(said.splitlines()) == 1, said
        assert "No space left" in said or "disk is full" in said, said


def check_whole(root: Path, expected: dict[str, np.ndarray]) -> None:
    with StockRoom(root) as stock:
        for name, values in expected.items():
            assert np.array_equal(np.asarray(stock.data[name]), values)
        report = stock.verify()
        assert report.ok, report.damage


@pytest.fixture
def repository(small_disk: Path) -> Path:
    with StockRoom.init(small_disk / "repo", name="n", email="e") as stock:
        with stock.enable_write("first"):
            stock.data["first"] = FIRST
        stock.create_branch("kept")
    return small_disk / "repo"


def import_more(root: Path, tmp_path: Path) -> tuple[str, ...]:
    np.save(tmp_path / "more.npy", MORE)
    return ("import", "numpy", str(tmp_path / "more.npy"))


def commit_staged(root: Path, tmp_path: Path) -> tuple[str, ...]:
    with StockRoom(root, enable_write=True) as writer:
        writer.data["more"] = MORE
        writer.data["labels"] = {f"a rather long key {n:05d}": n for n in range(3000)}
    return ("commit", "-m", "more")


def fetch_more(root: Path, tmp_path: Path) -> tuple[str, ...]:
    with StockRoom(root) as stock:
        stock.add_remote("origin", str(tmp_path / "remote"))
        stock.push()
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "other", metadata_only=True) as other:
        with other.enable_write("more"):
            other.data["more"] = MORE
            other.data["labels"] = {os.urandom(40).hex(): n for n in range(8000)}
        other.push()
    return ("pull",)


def collect(root: Path, tmp_path: Path) -> tuple[str, ...]:
    with StockRoom(root) as stock:
        for n in range(6):
            with stock.enable_write(f"{n}"):
                stock.data["small"] = FIRST[n * 20 : n * 20 + 20] ^ 1
    return ("gc", "--repack")


OPERATIONS: dict[str, tuple[Callable[[Path, Path], tuple[str, ...]], tuple[str, ...]]] = {
    "write": (import_more, ("more",)),
    "commit": (commit_staged, ("more",)),
    "fetch": (fetch_more, ("more",)),
    "gc": (collect, ()),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_disk_that_fills_loses_nothing_and_all_works_once_there_is_room(
    repository: Path, small_disk: Path, tmp_path: Path, name: str
) -> None:
    prepare, columns = OPERATIONS[name]
    words = prepare(repository, tmp_path)
    codes = []
    for left in LEFT_NBYTES:
        filler = fill(small_disk, but=left)
        code, said = call(repository, *words)
        check_said(code, said)
        codes.append(code)
        check_whole(repository, {"first": FIRST})  # read while the disk is still full
        filler.unlink()
        if code == 0:
            break
    assert codes[0] == 1 or name == "gc", "nothing ever failed: the disk was not full"
    code, said = call(repository, *words)
    assert code == 0 or "nothing to commit" in said or "already" in said, said
    check_whole(repository, {"first": FIRST} | dict.fromkeys(columns, MORE))
    assert call(repository, "commit", "-m", "after")[0] in (0, 1)
    with StockRoom(repository) as stock, stock.enable_write("again"):
        stock.data["again"] = FIRST[:10] ^ 3
    check_whole(repository, {"first": FIRST, "again": FIRST[:10] ^ 3})


def test_a_thousand_packs_are_read_and_written_with_64_open_files(tmp_path: Path) -> None:
    rows = [np.full(40 + n, n % 251, np.uint8) for n in range(1000)]
    root = tmp_path / "repo"
    StockRoom.init(root).close()
    store = TensorStore(root / ".stockroom")
    packing = TensorWriter(store)
    for row in rows:  # of each shape a pack
        packing.put_row(row.tobytes(), Stream("uint8", row.shape, "raw"))
    packing.flush()
    packing.close()
    store.close()
    with StockRoom(root) as stock, stock.enable_write("many"):
        stock.data.create("row", dtype="uint8", shape=(None,))
        stock.data["row"].update(dict(enumerate(rows)))
    assert len(list((root / ".stockroom/packs").glob("*/*"))) == len(rows)

    def work() -> None:
        os.closerange(3, 4096)  # what the process running the tests has open is no part of the 64
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with StockRoom(root) as stock:
            column = stock.data["row"]
            assert all(np.array_equal(column[n], row) for n, row in enumerate(rows))
            batch = column.take(np.arange(999, -1, -1))
            assert all(np.array_equal(one, row) for one, row in zip(batch, rows[::-1], strict=True))
            views = [column.view(n) for n in range(1000)]  # which keep their packs mapped, but no file open
            with stock.enable_write("more"):
                stock.data["more"] = FIRST
            assert all(np.array_equal(view, row) for view, row in zip(views, rows, strict=True))
            assert stock.verify().ok

    assert call_in_fork(work) == 0
