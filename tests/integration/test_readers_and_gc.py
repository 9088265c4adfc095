"""Readers beside gc: what a living one needs stays, what a dead one needed goes, and an unknown one is told."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.test_shared_access import NOBODY, open_folder  # noqa: F401 - a fixture
from tests.kit.children import call_in_fork
from tests.kit.programs import refuse, run_stock

from stockroom import CollectedError, Column, CorruptionError, RefNotFoundError, StockRoom, make_torch_dataset
from stockroom.digest import CommitId
from stockroom.refs import iter_history
from stockroom.repository.upkeep.gc import apply_gc, plan_gc

NOW = timedelta(0)
READER = """
import os, sys
import numpy as np
from stockroom import StockRoom

stock = StockRoom(sys.argv[1], ref="dead")
samples = enumerate(stock.data["sample"].values())
expected = np.random.default_rng(2).integers(0, 256, (600, 500), np.uint8)
assert (next(samples)[1] == expected[0]).all()
if sys.argv[2] == "fork" and os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.readline()
assert all((sample == expected[n]).all() for n, sample in samples)
assert (stock.data["late"][:] == expected[:50]).all()
assert (stock.model["net"].load()["weight"] == expected[7]).all()
print("right", flush=True)
sys.stdin.readline()
"""


def pool(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (600, 500), np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "repo")


def make(path: Path) -> Path:
    r"""
    base       main, checked out
        \
         dead  dead
    """
    with StockRoom.init(path) as stock:
        with stock.enable_write("base"):
            stock.data["base"] = pool(1)
        stock.checkout("dead", create=True)
        with stock.enable_write("dead"):
            stock.data["sample"] = pool(2)
            stock.data["late"] = pool(2)[:50]
            stock.data["text"] = ["a text of its own, too long to be inline"] * 20
            stock.model["net"] = {"weight": pool(2)[7]}
            stock.experiment["note"] = "dead " * 20
            stock.experiment.log({"loss": 0.5}, step=1)
            stock.experiment.artifact("figure.bin", pool(2)[:30].tobytes())
        stock.checkout("main")
    return path


def drop_branch(path: Path) -> str:
    with StockRoom(path) as stock:
        commit = stock.branches["dead"]
        stock.delete_branch("dead", force=True)
    return commit


def collect(path: Path) -> int:
    """How many commits and packs went."""
    with StockRoom(path) as stock:
        report = stock.gc(grace=NOW)
        assert stock.verify().damage == []
    return report.commits + report.packs


def list_files(path: Path) -> list[Path]:
    return list((path / ".stockroom/readers").iterdir())


def wait_for_locks(path: Path) -> None:
    """Return once nobody holds the files of readers."""
    for file in list_files(path):
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH)


@pytest.mark.parametrize("how", ["alone", "fork", "pid namespace"])
def test_a_reader_at_work_keeps_its_commit_and_a_killed_one_does_not(path: Path, how: str) -> None:
    command = [sys.executable, "-c", READER, str(path), how]
    if how == "pid namespace":
        command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", *command]
        if shutil.which("unshare") is None or subprocess.run([*command[:6], "true"], check=False).returncode:
            pytest.skip("this system lets nobody make a namespace of processes")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        pid = int(reader.stdout.readline())
        drop_branch(path)
        assert collect(path) == 0
        reader.stdin.write("go on\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "right\n"
        assert collect(path) == 0
        os.kill(reader.pid if how == "pid namespace" else pid, signal.SIGKILL)
        reader.wait()
        wait_for_locks(path)
        assert collect(path) >= 2
        assert list_files(path) == []


def read_in_worker(dataset: object, pipe: multiprocessing.connection.Connection) -> None:
    """Read the first sample, and the others when told."""
    assert (dataset[0][0].numpy() == pool(2)[0]).all()  # type: ignore[index]
    pipe.send("open")
    pipe.recv()
    pipe.send(all((dataset[n][0].numpy() == pool(2)[n]).all() for n in range(600)))  # type: ignore[index]
    pipe.recv()


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_worker_keeps_the_commit_of_its_data_set_after_its_parent_let_go(path: Path, how: str) -> None:
    pytest.importorskip("torch")
    context: Any = multiprocessing.get_context(how)
    ours, theirs = context.Pipe()
    with StockRoom(path, ref="dead") as stock:
        dataset = make_torch_dataset([stock.data["sample"]])
        worker = context.Process(target=read_in_worker, args=(dataset, theirs), daemon=True)
        worker.start()
        theirs.close()
        assert ours.recv() == "open"
    drop_branch(path)
    assert collect(path) == 0
    ours.send("go on")
    assert ours.recv() is True
    worker.kill()
    worker.join()
    assert collect(path) >= 2


# -- what each reader has open


READS: dict[str, Callable[[StockRoom], object]] = {
    "sample": lambda stock: stock.data["sample"][5],
    "batch": lambda stock: stock.data["sample"].take([1, 500]),
    "iterator": lambda stock: list(stock.data["sample"].values()),
    "keys": lambda stock: list(stock.data["sample"]),
    "text": lambda stock: stock.data["text"][3],
    "names": lambda stock: list(stock.data),
    "model": lambda stock: stock.model["net"].load(),
    "value": lambda stock: stock.experiment["note"],
    "metric": lambda stock: stock.experiment.metrics["loss"],
    "artifact": lambda stock: stock.experiment.artifacts["figure.bin"].read(),
    "diff": lambda stock: list(stock.diff("main", "HEAD")),
}


def test_an_open_handle_keeps_what_it_has_not_read_yet(path: Path) -> None:
    with StockRoom(path, ref="dead") as reader, StockRoom(path) as other:
        diff = other.diff("main", "dead")
        drop_branch(path)
        assert collect(path) == 0
        for read in READS.values():
            read(reader)
        reader.close()
        assert collect(path) == 0
        assert len(list(diff)) == 7
        del diff
        assert collect(path) >= 2


def test_gc_says_what_it_keeps_for_readers(path: Path) -> None:
    with StockRoom(path, ref="dead"):
        drop_branch(path)
        assert "1 commit kept for readers that have them open" in run_stock(path, "gc", "--grace", 0).stderr


def test_a_column_keeps_its_commit_after_its_handle_has_moved_on(path: Path) -> None:
    with StockRoom(path, ref="dead") as reader:
        column, model = reader.data["sample"], reader.model["net"]
        reader.checkout("main")
        drop_branch(path)
        assert collect(path) == 0
        assert (column[:] == pool(2)).all()
        assert (model.load()["weight"] == pool(2)[7]).all()
        del column
        assert collect(path) == 0
        del model
        assert collect(path) >= 2


def test_a_reader_that_comes_after_the_marks_is_seen(path: Path) -> None:
    """The commit is marked and about to go: the reader takes the mark away."""
    with StockRoom(path) as stock, ExitStack() as stack:
        commit = drop_branch(path)
        readers = []
        plan = plan_gc(stock._repository, grace=NOW)
        report = apply_gc(plan, before_removal=lambda: readers.append(stack.enter_context(StockRoom(path, ref=commit))))
        assert (report.commits, report.packs) == (0, 0)
        assert (readers[0].data["sample"][:] == pool(2)).all()
        assert stock.verify().damage == []
        stack.close()
        assert collect(path) >= 2


def test_a_reader_that_comes_between_plan_and_marks_is_seen(path: Path) -> None:
    with StockRoom(path) as stock:
        commit = drop_branch(path)
        plan = plan_gc(stock._repository, grace=NOW)
        with StockRoom(path, ref=commit) as reader:
            assert apply_gc(plan).commits == 0
            assert (reader.data["sample"][:] == pool(2)).all()


def test_a_reader_of_a_marked_commit_takes_its_mark_away_only_once_opened(path: Path) -> None:
    commit = drop_branch(path)
    with StockRoom(path) as stock:
        assert stock.gc().commits == 0  # marks it, for two weeks
        with StockRoom(path, ref=commit):
            assert stock.gc(grace=NOW).commits == 0
        assert stock.gc(grace=NOW).commits == 1


# -- the law


class World:
    """A repository whose branches come and go, and handles on their commits."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.rng = random.Random(seed)
        self.handles: list[tuple[StockRoom, int]] = []
        self.columns: list[tuple[Column, int, str | None]] = []
        self.count = 0
        with StockRoom.init(path):
            self.write()

    def write(self) -> None:
        self.count += 1
        with StockRoom(self.path) as stock, stock.enable_write(f"{self.count}"):
            stock.data["rows"] = pool(self.count)[:6]

    def branch(self) -> None:
        with StockRoom(self.path) as stock:
            name = f"b{self.rng.randrange(3)}"
            stock.checkout(name, create=name not in stock.branches)

    def delete(self) -> None:
        with StockRoom(self.path) as stock:
            name = f"b{self.rng.randrange(3)}"
            if name in stock.branches and name != stock.branch:
                stock.delete_branch(name, force=True)

    def undo(self) -> None:
        with StockRoom(self.path) as stock:
            if stock.branches.get(stock.branch or "") and len(list(stock.log(n=2))) == 2:
                stock.reset_to("HEAD~1")

    def open(self) -> None:
        with StockRoom(self.path) as stock:
            ref = self.rng.choice(sorted(stock.branches))
        handle = StockRoom(self.path, ref=ref)
        self.handles.append((handle, int(next(handle.log(n=1)).message)))

    def take(self) -> None:
        if self.handles:
            handle, number = self.rng.choice(self.handles)
            self.columns.append((handle.data["rows"], number, handle.commit_id))

    def move(self) -> None:
        if self.handles:
            at = self.rng.randrange(len(self.handles))
            handle, _ = self.handles[at]
            handle._ref = "HEAD"
            handle.refresh()
            self.handles[at] = handle, int(next(handle.log(n=1)).message)

    def drop(self) -> None:
        if self.columns:
            self.columns.pop(self.rng.randrange(len(self.columns)))

    def collect(self) -> None:
        with StockRoom(self.path) as stock:
            stock.gc(grace=NOW, repack=self.rng.random() < 0.3)
            assert stock.verify().damage == []
            refs = stock._repository.refs
            used = [handle.commit_id for handle, _ in self.handles] + [commit for _, _, commit in self.columns]
            tips = {*refs.branches().values(), *(CommitId(bytes.fromhex(commit or "")) for commit in used)}
            assert set(refs.iter_commit_ids()) == {commit for commit, _ in iter_history(refs, tips, skip=())}
        for handle, number in self.handles:
            assert (handle.data["rows"][:] == pool(number)[:6]).all()
        for column, number, _ in self.columns:
            assert (column[:] == pool(number)[:6]).all()

    def close(self) -> None:
        for handle, _ in self.handles:
            handle.close()


@pytest.mark.parametrize("seed", range(2))
def test_what_a_living_pin_needs_stays_and_what_none_needs_goes(tmp_path: Path, seed: int) -> None:
    steps = ["write", "write", "branch", "delete", "undo", "open", "open", "take", "move", "drop", "collect"]
    with closing(World(tmp_path / "repo", seed)) as world:
        for _ in range(45):
            getattr(world, world.rng.choice(steps))()
        world.collect()
        world.columns.clear()
        world.close()
        world.handles.clear()
        world.collect()
    assert list_files(tmp_path / "repo") == []


HASTY = """
import sys, time
import numpy as np
from stockroom import RefNotFoundError, StockRoom

reads, until = 0, time.monotonic() + 1.5
while time.monotonic() < until:
    try:
        stock = StockRoom(sys.argv[1], ref="side")
    except RefNotFoundError:
        continue
    with stock:
        number = int(next(stock.log(stock.commit_id, n=1)).message)
        expected = np.random.default_rng(number).integers(0, 256, (40, 500), np.uint8)
        assert (stock.data["side"][:] == expected).all()
        reads += 1
print(reads)
"""


def test_readers_of_a_branch_that_comes_and_goes_never_see_gc(path: Path) -> None:
    command = [sys.executable, "-c", HASTY, str(path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    number = gone = 0
    with StockRoom(path) as stock:
        while any(reader.poll() is None for reader in readers):
            number += 1
            with stock.session("side", message=f"{number}") as session:
                session.data["side"] = np.random.default_rng(number).integers(0, 256, (40, 500), np.uint8)
            gone += stock.gc(grace=NOW).commits
            stock.delete_branch("side", force=True)
            gone += stock.gc(grace=NOW).commits
    for reader in readers:
        out, err = reader.communicate()
        assert reader.returncode == 0, err
        assert int(out) > 0
    assert gone > 0


# -- readers that cannot be known


@pytest.fixture
def unlisted(path: Path) -> Iterator[tuple[Path, StockRoom]]:
    """A reader of a commit that gc deletes, since the reader could make no file."""
    shutil.rmtree(path / ".stockroom/readers")
    (path / ".stockroom/readers").write_bytes(b"")
    with StockRoom(path, ref="dead") as reader:
        yield path, reader


def test_a_reader_is_told_that_gc_deleted_its_commit(unlisted: tuple[Path, StockRoom]) -> None:
    path, reader = unlisted
    commit = drop_branch(path)
    assert collect(path) >= 2
    for read in READS.values():
        with pytest.raises(CollectedError, match=rf"{commit} was deleted by `stock gc` on 20.+ UTC, since") as caught:
            read(reader)
        assert caught.value.commit == commit
    reader.checkout("main")
    assert (reader.data["base"][:] == pool(1)).all()


def test_what_was_read_before_stays_readable_and_the_rest_says_why(unlisted: tuple[Path, StockRoom]) -> None:
    path, reader = unlisted
    view, samples = reader.data["sample"].view(3), iter(reader.data["sample"].values())
    column = reader.data["text"]
    keys = list(column)  # its tree, and no samples
    next(samples)
    drop_branch(path)
    assert collect(path) >= 2
    assert (view == pool(2)[3]).all()
    assert (next(samples) == pool(2)[1]).all()
    with pytest.raises(CollectedError):
        list(samples)
    with pytest.raises(CollectedError):
        column.get(keys[7])  # not None, as for a key that the column lacks


def test_data_sets_and_their_workers_are_told_too(unlisted: tuple[Path, StockRoom]) -> None:
    torch = pytest.importorskip("torch")
    path, reader = unlisted
    dataset = make_torch_dataset([reader.data["sample"]])
    drop_branch(path)
    assert collect(path) >= 2
    with pytest.raises(CollectedError):
        dataset[5]
    with pytest.raises(CollectedError, match="was deleted by `stock gc`"):
        list(torch.utils.data.DataLoader(dataset, batch_size=50, num_workers=1))


def test_a_ref_that_names_a_deleted_commit_says_so(path: Path) -> None:
    commit = drop_branch(path)
    assert collect(path) >= 2
    with pytest.raises(RefNotFoundError, match="was deleted by `stock gc`"):
        StockRoom(path, ref=commit)
    with pytest.raises(CollectedError):
        StockRoom(path, ref=commit[:8])
    with pytest.raises(RefNotFoundError) as unknown:
        StockRoom(path, ref="0123456789")
    assert not isinstance(unknown.value, CollectedError)
    line = refuse(path, "show", f"{commit}:data/sample/3")
    assert f"commit {commit} was deleted by `stock gc`" in line


def test_damage_stays_damage(unlisted: tuple[Path, StockRoom]) -> None:
    path, reader = unlisted
    for pack in (path / ".stockroom/packs").glob("*/*"):
        shutil.rmtree(pack)
    with pytest.raises(CorruptionError):
        reader.data["sample"][5]


def test_a_user_who_may_not_write_reads_all_the_same_and_leaves_nothing(open_folder: Path) -> None:  # noqa: F811
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = make(open_folder / "repo")
    told, tell = os.pipe()
    wait, go = os.pipe()

    def read() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with StockRoom(path, ref="dead") as reader:
            assert (reader.data["late"][:] == pool(2)[:50]).all()
            os.write(tell, b"x")
            assert os.read(wait, 1) == b"x"
            with pytest.raises(CollectedError):
                reader.data["sample"][3]

    def gc() -> None:
        os.read(told, 1)
        drop_branch(path)
        assert collect(path) >= 2
        os.write(go, b"x")

    child = os.fork()
    if child == 0:
        os._exit(call_in_fork(read))
    gc()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (path / ".stockroom/readers").exists() or list_files(path) == []
