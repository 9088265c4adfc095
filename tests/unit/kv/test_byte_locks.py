"""Locks on single bytes of a file: who sees them, what ends them, and that a forked child holds none."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.children import holder_with_worker, kill, run_in_child

from stockroom.errors import LockedError
from stockroom.kv.byte_locks import ByteLocks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


@pytest.fixture
def numbered(path: Path) -> Iterator[ByteLocks]:
    path.touch(mode=0o400)
    locks = ByteLocks(path)
    yield locks
    locks.leave()


def find_least(path: Path) -> int | None:
    locks = ByteLocks(path)
    try:
        return locks.find_least()
    finally:
        locks.leave()


def test_the_least_number_that_anybody_holds_is_found(path, numbered):
    assert numbered.find_least() is None
    other = ByteLocks(path)
    numbers = [1 << 40, 70, 71, 0, 5]
    for number, locks in zip(numbers, [other, numbered] * 3, strict=False):
        locks.hold(number)
    found = []
    for number in sorted(numbers):
        found.append((numbered.find_least(), other.find_least(), find_least(path)))
        [numbered, other][numbers.index(number) % 2 == 0].let_go(number)
    assert found == [(number,) * 3 for number in sorted(numbers)]
    assert find_least(path) is None
    other.leave()


def test_a_number_held_twice_is_held_until_it_was_let_go_twice(path, numbered):
    numbered.hold(7)
    numbered.hold(7)
    numbered.let_go(7)
    assert find_least(path) == 7
    numbered.let_go(7)
    assert find_least(path) is None


def test_a_forked_child_holds_no_number_and_cannot_free_one_of_its_parent(path, numbered):
    numbered.hold(7)

    def act() -> bool:
        numbered.leave()
        return find_least(path) == 7

    assert run_in_child(act)
    assert find_least(path) == 7


def test_the_numbers_of_a_killed_process_are_free_though_its_worker_lives_on(path, numbered):
    def hold() -> ByteLocks:
        locks = ByteLocks(path)
        locks.hold(3)
        return locks

    with holder_with_worker(hold) as child:
        assert numbered.find_least() == 3
        kill(child)
        assert numbered.find_least() is None


def test_a_file_system_without_locks_is_named_or_done_without(path, numbered, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(LockedError, match=r"a\.lock: its file system .*No locks available.*local disk"):
        ByteLocks(path)
    locks = ByteLocks(path, must_work=False)
    locks.hold(1)
    locks.let_go(1)
    locks.leave()
