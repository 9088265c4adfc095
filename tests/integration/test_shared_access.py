"""Processes that stop, and users that share a repository: readers never wait, waits end, no user is locked out."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork

from stockroom import LockedError, StockRoom
from stockroom.kv import Environment, shared

NOBODY = 65534
STOPPED = """
import os, signal, sys
from pathlib import Path
from stockroom.kv import Environment

def stop(txn):
    os.kill(os.getpid(), signal.SIGSTOP)
    if sys.argv[2] == "things":
        txn.put("things", b"late", b"1")

Environment.open(Path(sys.argv[1]), databases=[sys.argv[2]]).update(stop)
"""


@contextmanager
def stopped_in_an_update(env: Path, database: str) -> Iterator[int]:
    """A process that is stopped in the middle of a transaction, and goes on at the end of the block."""
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(env), database])
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    try:
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait() == 0


def run_as(uid: int, fn: Callable[[], None], *, umask: int = 0o022) -> None:
    """Run `fn` in a child, as another user if this one is root; fails if it does."""

    def act() -> None:
        os.umask(umask)
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        fn()

    assert call_in_fork(act) == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; not in tmp_path, whose parents may be closed to others."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def write(path: Path, seed: int) -> None:
    with StockRoom(path) as stock, stock.enable_write(f"part {seed}"):
        stock.data[f"part{seed}"] = np.random.default_rng(seed).integers(0, 256, (30, 40), np.uint8)


@pytest.mark.parametrize("name", ["refs", "catalog"])
def test_readers_do_not_wait_for_a_stopped_writer(stock, name):
    write(stock.path, 1)
    database = {"refs": "stage", "catalog": "meta"}[name]
    read = "with StockRoom(sys.argv[1]) as stock: print(len(list(stock.log())), stock.data['part1'][3].sum())"
    with stopped_in_an_update(stock.path / ".stockroom" / name, database):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\nfrom stockroom import StockRoom\n{read}", str(stock.path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    stock.refresh()
    assert done.stdout.split() == ["1", str(stock.data["part1"][3].sum())]


def test_a_writer_gives_up_on_a_stopped_one_and_names_it(stock, monkeypatch):
    monkeypatch.setattr(shared, "WRITE_PATIENCE_S", 0.2)
    write(stock.path, 1)
    stock.refresh()
    with stopped_in_an_update(stock.path / ".stockroom" / "refs", "stage") as pid:
        with pytest.raises(LockedError, match=f"writing there; end it if it has stopped .*process {pid}") as caught:
            stock.create_branch("next")
        assert caught.value.pid == pid
    stock.create_branch("next")


def test_what_was_opened_beside_a_stopped_writer_can_be_written_to_once_it_is_gone(tmp_path):
    Environment.open(tmp_path, databases=["things"]).close()
    with stopped_in_an_update(tmp_path, "things"):
        env = Environment.open(tmp_path, databases=["things"])
        assert not env.readonly
        assert env.view(lambda txn: txn.get("things", b"late")) is None
    env.update(lambda txn: txn.put("things", b"next", b"2"))
    assert env.view(lambda txn: [key for key, _ in txn.iterate("things")]) == [b"late", b"next"]
    env.close()


def test_a_database_that_is_missing_is_made_once_the_writer_is_gone(tmp_path, monkeypatch):
    Environment.open(tmp_path, databases=["things"]).close()
    with stopped_in_an_update(tmp_path, "things"):
        monkeypatch.setattr(shared, "WRITE_PATIENCE_S", 0.1)
        with pytest.raises(LockedError):
            Environment.open(tmp_path, databases=["things", "others"])
        with Environment.open(tmp_path, databases=["things"]) as env:
            assert env.view(lambda txn: txn.count("things")) == 0
    with Environment.open(tmp_path, databases=["things", "others"]) as env:
        env.update(lambda txn: txn.put("others", b"a", b"1"))
        assert env.view(lambda txn: (txn.count("things"), txn.count("others"))) == (1, 1)


def list_modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


def work(folder: Path) -> None:
    """Everything that makes files: init, settings, commits, a session, push, fetch, checkout, gc."""
    path = folder / "repo"
    with StockRoom.init(path, "a", "a@b") as stock:
        stock.add_remote("origin", str(folder / "remote"))
    write(path, 1)
    with StockRoom(path) as stock:
        with stock.session(name="own") as session:
            session.data["part2"] = np.arange(5000).reshape(-1, 50)
        stock.refresh()
        stock.push()
        stock.fetch()
        stock.checkout("dev", create=True)
    write(path, 3)
    with StockRoom(path) as stock:
        stock.checkout("main")
        stock.delete_branch("dev", force=True)
        stock.gc(grace=timedelta(0), repack=True)
        stock.gc(grace=timedelta(0))


def test_all_that_is_written_has_the_modes_of_the_umask(tmp_path):
    run_as(0, lambda: work(tmp_path), umask=0o002)
    modes = list_modes(tmp_path)
    assert len(modes) > 20
    assert {name: oct(mode) for name, mode in modes.items() if not mode & 0o020} == {}


def test_a_lock_file_is_closed_to_those_who_may_only_read(tmp_path):
    run_as(0, lambda: work(tmp_path), umask=0o022)
    modes = list_modes(tmp_path)
    locks = {name: mode for name, mode in modes.items() if name.endswith(".lock") or "/claims/" in name}
    assert len(locks) > 5
    assert set(locks.values()) == {0o600}
    assert all(mode & 0o044 == 0o044 for name, mode in modes.items() if name not in locks)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_what_root_does_in_a_users_repository_does_not_lock_the_user_out(open_folder):
    run_as(NOBODY, lambda: work(open_folder))
    path = open_folder / "repo"
    owners = {name for name in open_folder.rglob("*") if name.lstat().st_uid != NOBODY}
    assert owners == set()

    def act() -> None:
        write(path, 5)
        with StockRoom(path) as stock:
            stock.checkout("dead", create=True)
        write(path, 6)
        with StockRoom(path) as stock:
            stock.checkout("main")
            stock.delete_branch("dead", force=True)
            stock.gc(grace=timedelta(0), repack=True)
            stock.set_remote("origin", str(open_folder / "remote"))
            stock.push()

    run_as(0, act)
    assert {str(name) for name in open_folder.rglob("*") if name.lstat().st_uid != NOBODY} == set()
    run_as(NOBODY, act)
    with StockRoom(path) as stock:
        assert stock.verify().damage == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_lock_files_that_root_left_in_a_users_folder_are_still_taken(open_folder):
    run_as(NOBODY, lambda: work(open_folder))
    for path in open_folder.rglob("*.lock"):
        os.chown(path, 0, 0)
        path.chmod(0o644)
    run_as(NOBODY, lambda: write(open_folder / "repo", 5))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_group_with_umask_002_shares_a_repository(open_folder):
    group = 54321
    os.chown(open_folder, 0, group)
    open_folder.chmod(0o2775)

    def as_member(uid: int, fn: Callable[[], None]) -> None:
        def act() -> None:
            os.setgroups([group])
            os.setgid(uid)
            os.setuid(uid)
            fn()

        run_as(0, act, umask=0o002)

    as_member(60001, lambda: work(open_folder))
    as_member(60002, lambda: write(open_folder / "repo", 7))
    as_member(60001, lambda: write(open_folder / "repo", 8))
