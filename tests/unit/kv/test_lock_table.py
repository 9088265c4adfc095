"""LMDB's lock file of one process: where it is, how it is checked, and that nothing of it stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stockroom.errors import StockroomError
from stockroom.kv import Environment, lock_table


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place for folders of openings."""
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(lock_table, "_MEMORY", memory)
    return memory


def use(path: Path) -> None:
    with Environment.open(path, databases=["things"]) as env:
        env.update(lambda txn: txn.put("things", b"a", b"1"))
        assert env.view(lambda txn: txn.get("things", b"a")) == b"1"


def test_an_opening_leaves_only_the_data_and_the_lock_of_writers(tmp_path: Path, memory: Path) -> None:
    use(tmp_path / "env")
    assert list(memory.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "env").iterdir()) == ["data.mdb", "write.lock"]


def test_a_machine_without_a_place_in_memory_uses_the_folder_itself(tmp_path: Path, memory: Path) -> None:
    memory.rmdir()
    use(tmp_path / "env")
    assert sorted(path.name for path in (tmp_path / "env").iterdir()) == ["data.mdb", "write.lock"]


def test_what_a_killed_opening_left_is_removed_an_hour_later(tmp_path: Path, memory: Path) -> None:
    old, young = memory / f"{lock_table.PREFIX}0", memory / f"{lock_table.PREFIX}1"
    for folder in (old, young):
        folder.mkdir()
        (folder / "lock.mdb").touch()
        (folder / "data.mdb").symlink_to(tmp_path / "nowhere")
    os.utime(old, (0, time.time() - 2 * lock_table._OLD_S))
    use(tmp_path / "env")
    assert list(memory.iterdir()) == [young]


def test_another_layout_of_the_lock_file_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path)
    before = (tmp_path / "data.mdb").read_bytes()
    monkeypatch.setattr(lock_table, "_TXNID", 1)
    with pytest.raises(StockroomError, match=r"release of py-lmdb.*install lmdb 3\.0"):
        use(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before
    monkeypatch.undo()
    use(tmp_path)
