"""Every lock file of a repository: no forked child keeps one; every wait for one ends and says who is in the way."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import end_agents

from stockroom import LockedError, StockRoom
from stockroom.kv import register
from stockroom.locks import FileLock

SAMPLES = np.random.default_rng(3).integers(0, 256, (40, 300), dtype=np.uint8)


class Workers:
    """Children forked under locks, as a data loader's are; each waits for the end of the test."""

    def __init__(self) -> None:
        self.forked_under: dict[str, Path] = {}
        self.waits: list[Path] = []
        self._pids: list[int] = []
        self._end, self._tell = os.pipe()

    def fork_under(self, lock: FileLock) -> None:
        """Fork a child while the lock is held, the first time that one of this name is."""
        name = re.sub(r"[0-9a-f]{8,}|\d+", "*", "/".join(lock.path.parts[-2:]))
        if name in self.forked_under:
            return
        self.forked_under[name] = lock.path
        pid = os.fork()
        if pid == 0:
            os.close(self._tell)
            os.read(self._end, 1)
            os._exit(0)
        self._pids.append(pid)

    def end(self) -> None:
        os.close(self._tell)
        for pid in self._pids:
            os.waitpid(pid, 0)
        os.close(self._end)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Fork a worker under every lock that this process takes; note each lock that it has to wait for."""
    workers, try_take, wait = Workers(), FileLock.try_take, FileLock.wait

    def try_to_take(lock: FileLock) -> bool:
        taken = try_take(lock)
        if taken and not lock._is_inherited:
            workers.fork_under(lock)
        return taken

    def wait_for(lock: FileLock, timeout_s: float, **options: float) -> bool:
        if not lock.try_take():
            workers.waits.append(lock.path)
        return wait(lock, timeout_s, **options)

    monkeypatch.setattr(FileLock, "try_take", try_to_take)
    monkeypatch.setattr(FileLock, "wait", wait_for)
    monkeypatch.setattr(register, "FORK_PATIENCE_S", 0.01)  # a fork by the very thread that opens a file
    yield workers
    workers.end()


def work(folder: Path) -> None:
    """What a repository is used for, so that each of its locks is taken more than once."""
    with StockRoom.init(folder / "repo") as stock:
        for n in range(2):
            with stock.enable_write(f"block {n}"):
                stock.data[f"x{n}"] = SAMPLES
            with stock.session("main") as session:
                session.data[f"y{n}"] = SAMPLES
            stock.add_remote(f"r{n}", str(folder / f"remote{n}"))
            stock.push(f"r{n}")
        with stock.enable_write("less"):
            del stock.data["x0"]
        stock.undo()
        for _ in range(2):
            stock.gc(grace=timedelta(0), repack=True)
            stock.verify()
        stock.create_branch("other")
    for n in range(2):
        clone = folder / f"clone{n}"
        with StockRoom.clone(str(folder / "remote1"), clone, metadata_only=True) as copy:
            for _ in range(2):
                end_agents(clone)
                assert np.array_equal(copy.data["y1"][n], SAMPLES[n])
            copy.fetch()
            copy.drop()
        end_agents(clone)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_no_worker_forked_under_a_lock_keeps_it_or_makes_anybody_wait(tmp_path: Path, workers: Workers) -> None:
    work(tmp_path)
    assert {"packs/place.lock", ".stockroom/commit.lock", "agent/lock", "refs/write.lock", "catalog/write.lock"} <= set(
        workers.forked_under
    )
    assert workers.waits == []
    for path in filter(Path.exists, workers.forked_under.values()):
        with FileLock(path) as lock:
            assert lock.try_take(), path


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Another process that holds a lock until the end of the block, by its id."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with FileLock(path) as lock:
            os.write(tell, bytes([lock.try_take()]))
            while True:
                signal.pause()
    try:
        assert os.read(ready, 1) == b"\1"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)


def write(stock: StockRoom) -> None:
    with stock.enable_write("more", timeout_s=0):
        seed = len(list(stock.log()))
        stock.data[f"x{seed}"] = np.random.default_rng(seed).integers(0, 256, SAMPLES.shape, np.uint8)


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("refs/write.lock", lambda stock: stock.create_branch("other")),
        ("catalog/write.lock", write),
        ("writer.lock", write),
        ("packs/place.lock", write),
        ("packs/removal.lock", lambda stock: stock.gc(grace=timedelta(0), repack=True)),
        ("packs/exchange.lock", write),
        ("claims/0", write),
        ("remotes.json.lock", lambda stock: stock.add_remote("r", "/remote")),
        ("config.json.lock", lambda stock: stock.change_setting("user.name", "me")),
    ],
)
def test_a_wait_for_a_lock_ends_and_names_the_lock_and_its_holder(
    tmp_path: Path, name: str, act: Callable[[StockRoom], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = FileLock.wait
    monkeypatch.setattr(FileLock, "wait", lambda lock, timeout_s, **_: wait(lock, min(timeout_s, 0.01)))
    with StockRoom.init(tmp_path) as stock:
        write(stock)
    with StockRoom(tmp_path) as stock:
        path = tmp_path / ".stockroom" / name
        with held_elsewhere(path) as pid, pytest.raises(LockedError) as caught:
            act(stock)
        assert caught.value.pid == pid
        assert str(pid) in str(caught.value)
