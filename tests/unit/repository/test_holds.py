"""Holds: what living processes list is seen, what ended is not, and no file is left behind."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit.children import call_in_fork

from stockroom.digest import CommitId
from stockroom.errors import UnreadableError
from stockroom.locks import FileLock
from stockroom.repository import holds
from stockroom.repository.holds import Hold, list_held, remove_dead

ONE, TWO, THREE = (CommitId(bytes([n]) * 32) for n in (1, 2, 3))


def list_files(folder: Path) -> list[Path]:
    readers = folder / "readers"
    return sorted(readers.iterdir()) if readers.is_dir() else []


def start_child(act: Callable[[], object]) -> tuple[int, int]:
    """A forked child that has done `act` and goes on until it is killed; and a pipe that ends with it."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kept = act()
            os.write(tell, b"x")
            signal.pause()
            del kept
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    return child, ready


def kill(child: int, pipe: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pipe)


def test_one_file_lists_the_commits_of_all_holds_and_goes_with_the_last(tmp_path: Path) -> None:
    first, again, other = Hold(tmp_path, ONE), Hold(tmp_path, ONE), Hold(tmp_path, TWO)
    assert list_held(tmp_path) == {ONE, TWO}
    [file] = list_files(tmp_path)
    assert file.read_bytes() == ONE + TWO
    first.release()
    first.release()
    assert list_held(tmp_path) == {ONE, TWO}
    del again
    assert list_held(tmp_path) == {TWO}
    new = Hold(tmp_path, THREE)
    assert file.read_bytes() == THREE + TWO
    other.release()
    new.release()
    assert list_files(tmp_path) == []


def test_a_killed_process_holds_nothing_and_its_file_is_removed(tmp_path: Path) -> None:
    child, pipe = start_child(lambda: Hold(tmp_path, ONE))
    assert list_held(tmp_path) == {ONE}
    remove_dead(tmp_path)
    assert list_held(tmp_path) == {ONE}
    kill(child, pipe)
    assert list_held(tmp_path) == set()
    assert len(list_files(tmp_path)) == 1
    remove_dead(tmp_path)
    assert list_files(tmp_path) == []


def test_a_forked_child_holds_what_its_parent_held_until_it_ends(tmp_path: Path) -> None:
    first, second = Hold(tmp_path, ONE), Hold(tmp_path, TWO)
    child, pipe = start_child(lambda: None)
    first.release()
    third = Hold(tmp_path, THREE)
    assert list_held(tmp_path) == {ONE, TWO, THREE}
    second.release()
    third.release()
    assert list_held(tmp_path) == {ONE, TWO}
    kill(child, pipe)
    assert list_held(tmp_path) == set()


def test_a_child_that_changes_its_holds_leaves_those_of_its_parent(tmp_path: Path) -> None:
    first, second = Hold(tmp_path, ONE), Hold(tmp_path, TWO)

    def change() -> Hold:
        first.release()
        return Hold(tmp_path, THREE)

    child, pipe = start_child(change)
    assert list_held(tmp_path) == {ONE, TWO, THREE}
    assert len(list_files(tmp_path)) == 2
    first.release()
    second.release()
    assert list_held(tmp_path) == {TWO, THREE}
    kill(child, pipe)
    remove_dead(tmp_path)
    assert list_files(tmp_path) == []


def test_the_parents_hold_lasts_when_a_child_ends(tmp_path: Path) -> None:
    hold = Hold(tmp_path, ONE)
    assert call_in_fork(hold.release) == 0
    assert call_in_fork(holds._end_all) == 0
    assert call_in_fork(lambda: None) == 0
    assert list_held(tmp_path) == {ONE}
    hold.release()
    assert list_files(tmp_path) == []


def test_a_file_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    first = Hold(tmp_path, ONE)
    list_files(tmp_path)[0].unlink()
    second = Hold(tmp_path, TWO)
    assert list_held(tmp_path) == {ONE, TWO}
    first.release()
    second.release()
    assert list_files(tmp_path) == []


def test_where_no_file_can_be_made_a_hold_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "readers").write_bytes(b"")
    hold = Hold(tmp_path, ONE)
    assert list_held(tmp_path) == set()
    hold.release()
    (tmp_path / "readers").unlink()
    later = Hold(tmp_path, TWO)
    assert list_held(tmp_path) == {TWO}
    later.release()


def test_what_is_no_file_of_a_reader_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "readers"
    folder.mkdir()
    (folder / "note.txt").write_bytes(ONE)
    (folder / ("a" * 16)).symlink_to("/etc/passwd")
    (folder / ("b" * 16)).mkdir()
    os.mkfifo(folder / ("c" * 16))
    torn = FileLock(folder / ("d" * 16))
    assert torn.try_take()
    os.pwrite(torn.fileno(), TWO + bytes(32) + ONE[:20], 0)
    assert list_held(tmp_path) == {TWO}
    remove_dead(tmp_path)
    assert {path.name[0] for path in list_files(tmp_path)} == {"n", "a", "b", "d"}
    torn.release()


def test_a_file_that_cannot_be_opened_is_not_taken_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold(tmp_path, ONE)

    def exhausted(*_: object, **__: object) -> FileLock:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(holds, "FileLock", exhausted)
    with pytest.raises(UnreadableError, match="Too many open files"):
        list_held(tmp_path)
    monkeypatch.undo()
    hold.release()


def test_a_listing_sees_a_commit_whose_file_is_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file is gone by the time that it is read, and the new one was made after the folder was listed."""
    hold, read = Hold(tmp_path, ONE), holds._read_held
    file = holds._files[tmp_path]

    def read_late(path: Path) -> set[CommitId]:
        monkeypatch.undo()
        file.freeze()
        other = Hold(tmp_path, TWO)
        other.release()
        return read(path)

    monkeypatch.setattr(holds, "_read_held", read_late)
    assert list_held(tmp_path) == {ONE}
    hold.release()


def test_what_lives_is_listed_and_nothing_else(tmp_path: Path) -> None:
    """Any order of holds, releases and forks: after each step, exactly the commits with a hold in a living process."""
    rng = random.Random(7)
    commits = [CommitId(bytes([n]) * 32) for n in range(1, 9)]
    mine: list[Hold] = []
    children: list[tuple[int, int, set[CommitId]]] = []
    for _ in range(300):
        step = rng.random()
        if step < 0.45:
            mine.append(Hold(tmp_path, rng.choice(commits)))
        elif step < 0.85 and mine:
            mine.pop(rng.randrange(len(mine))).release()
        elif step < 0.93 and len(children) < 4:
            own = rng.choice(commits)
            child, pipe = start_child(lambda own=own: Hold(tmp_path, own))  # type: ignore[misc]
            children.append((child, pipe, {own, *(hold.commit for hold in mine)}))
        elif children:
            child, pipe, _ = children.pop(rng.randrange(len(children)))
            kill(child, pipe)
        assert list_held(tmp_path) == {hold.commit for hold in mine}.union(*(held for _, _, held in children))
    for child, pipe, _ in children:
        kill(child, pipe)
    for hold in mine:
        hold.release()
    remove_dead(tmp_path)
    assert list_files(tmp_path) == []
