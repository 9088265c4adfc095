"""Locks on files and between threads: who excludes whom, what ends them, and that no fork leaves one locked."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.kit.children import holder_with_worker, kill, run_in_child

import stockroom
from stockroom.errors import LockedError, ReadOnlyError
from stockroom.fork_locks import make_fork_lock
from stockroom.locks import FileLock

SOURCE = Path(stockroom.__file__).parent
WAITS = {
    "cli/render/progress.py: thread.join": "it ends within one step of the bar",
    "remotes/agent/downloads.py: job.done.wait": "a download fails by itself if nothing arrives",
    "remotes/agent/starting.py: process.wait": "it was just killed",
    "remotes/agent/unit_queue.py: self._ready.wait": "a thread without work",
}
"""The waits without a deadline for something else than a computation of this process, and why."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


def take(path: Path, *, is_shared: bool = False) -> FileLock:
    lock = FileLock(path, is_shared=is_shared)
    assert lock.try_take()
    return lock


def is_free(path: Path, *, is_shared: bool = False) -> bool:
    with FileLock(path, is_shared=is_shared) as lock:
        return lock.try_take()


@contextmanager
def held_by_child(path: Path, *, is_shared: bool = False) -> Iterator[int]:
    """Another process that holds the lock, by its id, until the block ends or it is killed."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lock = take(path, is_shared=is_shared)
            os.write(tell, b"x")
            while lock.is_held:
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_every_lock_of_the_system_is_of_two_modules_and_waits_without_a_deadline_are_known():
    found, users = set(), set()
    for module in SOURCE.rglob("*.py"):
        name, text = module.relative_to(SOURCE).as_posix(), module.read_text("utf-8")
        if re.search(r"^\s*(import|from) (fcntl|portalocker|filelock)\b|\blockf\(", text, re.MULTILINE):
            users.add(name)
        calls = re.findall(
            r"\b((?:self\.)?[\w.]*(?:done|ready|process|thread|event|lock|mutex))\.(wait|join|acquire)\(\)", text
        )
        found |= {f"{name}: {owner}.{verb}" for owner, verb in calls}
    assert users == {"kv/byte_locks.py", "locks.py"}
    assert found == WAITS.keys()


def test_another_process_keeps_a_lock_until_it_is_killed(path):
    with held_by_child(path):
        assert not is_free(path)
    assert is_free(path)


def test_those_who_share_a_lock_keep_out_only_those_who_want_it_alone(path):
    with held_by_child(path, is_shared=True), take(path, is_shared=True):
        assert is_free(path, is_shared=True)
        assert not is_free(path)
    with take(path):
        assert not run_in_child(lambda: is_free(path, is_shared=True))


def test_two_threads_that_take_one_lock_exclude_each_other(path):
    inside, most = [], []

    def work() -> None:
        for _ in range(50):
            with FileLock(path) as lock:
                lock.take(60, busy="another thread is inside")
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 200


def test_a_forked_child_holds_nothing_and_cannot_free_what_its_parent_holds(path):
    lock = take(path)

    def act() -> bool:
        was_held = lock.is_held
        lock.release()
        return not was_held and not is_free(path)

    assert run_in_child(act)
    assert lock.is_held
    assert not is_free(path)
    lock.release()
    lock.release()
    assert not lock.is_held
    assert is_free(path)


def test_a_child_that_lives_on_does_not_hold_on_to_what_its_parent_let_go(path):
    lock = take(path)
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        while True:
            signal.pause()
    os.read(ready, 1)
    copy = os.dup(lock.fileno())  # as a program being started has it for a moment
    try:
        lock.release()
        assert is_free(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for fd in (copy, ready, tell):
            os.close(fd)


def test_the_workers_of_a_process_that_was_killed_do_not_hold_its_locks(path):
    with holder_with_worker(lambda: take(path)) as child:
        assert not is_free(path)
        kill(child)
        assert is_free(path)


def test_a_process_that_inherits_the_file_holds_on_to_what_was_left_to_it(path):
    lock = take(path)
    inherited = os.dup(lock.fileno())
    lock.leave()
    assert not lock.is_held
    assert not is_free(path)
    os.close(inherited)
    assert is_free(path)


def test_a_lock_that_is_dropped_is_free(path):
    lock = take(path)
    del lock
    assert is_free(path)


def test_who_waits_gets_the_lock_as_soon_as_it_is_free(path):
    first = take(path)

    class Patient(FileLock):
        tries = 0

        def try_take(self) -> bool:
            self.tries += 1
            if self.tries == 4:
                first.release()
            return super().try_take()

    with Patient(path) as second:
        assert second.wait(60)
        assert (second.tries, second.is_held) == (4, True)


def test_who_waits_gives_up_at_the_deadline_and_says_who_was_in_the_way(path):
    with held_by_child(path) as child, FileLock(path) as lock:
        started_s = time.monotonic()
        assert not lock.wait(0.05)
        assert 0.05 <= time.monotonic() - started_s < 30
        pid = lock.find_holder()
        with pytest.raises(LockedError, match=r"^busy now \(waited 0.01 s; .* holds .*a\.lock\)$") as caught:
            lock.take(0.01, busy="busy now")
        assert caught.value.pid == pid
        assert pid in ({child} if sys.platform == "linux" else {child, None})


def test_a_lock_that_is_unlocked_is_free_and_can_be_taken_again(path):
    lock = take(path)
    lock.unlock()
    lock.unlock()
    assert not lock.is_held
    assert is_free(path)
    assert lock.try_take()
    assert not is_free(path)
    lock.release()
    assert is_free(path)


def test_a_lock_file_is_closed_to_those_who_may_not_write_it(path):
    for number, (umask, mode) in enumerate([(0o022, 0o600), (0o002, 0o660), (0, 0o666), (0o077, 0o600)]):
        before = os.umask(umask)
        try:
            made = path.with_name(f"{number}.lock")
            FileLock(made).release()
        finally:
            os.umask(before)
        assert stat.S_IMODE(made.stat().st_mode) == mode


def test_a_link_in_the_place_of_a_lock_file_is_refused_and_not_followed(path):
    outside = path.with_name("outside")
    path.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        FileLock(path)
    assert not outside.exists()


def test_a_lock_file_that_must_exist_is_not_made(path):
    with pytest.raises(FileNotFoundError):
        FileLock(path, must_exist=True)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_says_so(path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path.parent.chmod(0o500)
    with pytest.raises(ReadOnlyError, match="only reads work here"):
        FileLock(path)


def test_a_holders_note_is_there_for_others_until_it_lets_go(path):
    path.write_bytes(b"left behind by one that was killed")
    with take(path) as lock, FileLock(path) as other:
        lock.write_note(b"me")
        assert other.read_note() == b"me"
    assert path.read_bytes() == b""


def test_a_fork_waits_for_a_lock_file_that_is_being_opened(path, monkeypatch):
    """Otherwise the child would keep a file open that it does not know of, and the lock with it."""
    opening, go_on, opened = threading.Event(), threading.Event(), os.open

    def open_slowly(*arguments: object, **options: object) -> int:
        fd = opened(*arguments, **options)
        opening.set()
        go_on.wait(60)
        return fd

    monkeypatch.setattr(os, "open", open_slowly)
    thread = threading.Thread(target=FileLock, args=(path,))
    thread.start()
    opening.wait()
    threading.Timer(0.05, go_on.set).start()
    here = path.stat().st_ino

    def count_open() -> int:
        return sum(os.fstat(fd).st_ino == here for fd in range(3, 256) if Path(f"/proc/self/fd/{fd}").exists())

    assert run_in_child(lambda: count_open() == 0)
    thread.join()


def test_a_child_forked_while_another_thread_holds_the_lock_takes_it_at_once():
    lock = make_fork_lock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a lock left locked would wait for ever
        with lock:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    done.set()
    thread.join()
    assert status == 0


def test_its_holder_may_take_it_again():
    lock, taken = make_fork_lock(), []

    def try_elsewhere() -> None:
        taken.append(lock.acquire(blocking=False))

    with lock:
        with lock:
            pass
        other = threading.Thread(target=try_elsewhere)
        other.start()
        other.join(60)
    assert taken == [False]  # leaving the inner block did not free it
