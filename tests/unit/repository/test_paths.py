"""Small files that are no UTF-8: an error that names the file, or, where they only inform, nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockroom import LockedError, RepositoryNotFoundError, StockRoom, errors
from stockroom.repository.paths import RepositoryPaths, make_own_folder

FORMAT = "stockroom repository 1\n"
GARBAGE = b'{"name": "\xff\xfe", "email": "a@b"}'


def test_a_config_that_is_no_utf_8_is_named(stock: StockRoom) -> None:
    (stock.path / ".stockroom" / "config.json").write_bytes(GARBAGE)
    with pytest.raises(errors.CorruptionError, match=r"config\.json"), stock.enable_write():
        stock.data["a"] = [1]


def test_settings_of_remotes_that_are_no_utf_8_are_named(stock: StockRoom) -> None:
    (stock.path / ".stockroom" / "remotes.json").write_bytes(b'{"origin": {"url": "\xff"}}')
    with pytest.raises(errors.MalformedRecordError, match=r"remotes\.json.*fix the file"):
        stock.push()


def test_a_lease_whose_holder_cannot_be_read_is_held_all_the_same(stock: StockRoom) -> None:
    with StockRoom(stock.path, enable_write=True):
        (stock.path / ".stockroom" / "writer.lock").write_bytes(b'{"pid": 1, "host": "\xff", "since": ""}')
        with pytest.raises(LockedError), stock.enable_write(timeout_s=0):
            pass


def test_an_init_killed_before_its_last_step_is_completed_by_the_next_one(tmp_path: Path) -> None:
    StockRoom.init(tmp_path).close()
    (tmp_path / ".stockroom" / "format").unlink()
    with pytest.raises(RepositoryNotFoundError):
        StockRoom(tmp_path)
    with StockRoom.init(tmp_path) as stock:
        assert (stock.is_new, stock.branch) == (True, "main")


def test_an_init_killed_after_head_was_prepared_is_completed_by_the_next_one(tmp_path: Path) -> None:
    StockRoom.init(tmp_path).close()
    (tmp_path / ".stockroom" / "format").unlink()
    (tmp_path / "head.stock").unlink()
    with StockRoom.init(tmp_path) as stock:
        assert stock.is_new


@pytest.mark.parametrize("name", ["remote.stock", ".stockroom/clone.json"])
def test_init_does_not_complete_a_clone_that_was_killed(tmp_path: Path, name: str) -> None:
    StockRoom.init(tmp_path).close()
    (tmp_path / ".stockroom" / "format").unlink()
    (tmp_path / name).write_text("{}")
    with pytest.raises(RepositoryNotFoundError, match="stock clone --here"):
        StockRoom.init(tmp_path)


@pytest.mark.parametrize("left", ["", "\0" * len(FORMAT)])
def test_a_format_file_that_a_power_cut_left_empty_is_written_again_by_init(stock: StockRoom, left: str) -> None:
    with stock.enable_write("one"):
        stock.data["a"] = [1, 2, 3]
    path, commit = stock.path, stock.commit_id
    (path / ".stockroom" / "format").write_text(left)
    with pytest.raises(errors.MalformedRecordError, match="power cut leaves it: run `stock init`"):
        StockRoom(path)
    with StockRoom.init(path) as again:
        assert (again.is_new, again.commit_id) == (False, commit)
    assert (path / ".stockroom" / "format").read_text() == FORMAT


def test_an_empty_gitignore_is_written_again(stock: StockRoom) -> None:
    ignored = stock.path / ".stockroom" / ".gitignore"
    ignored.write_bytes(b"")
    make_own_folder(RepositoryPaths(stock.path))
    assert ignored.read_text().endswith("\n*\n")
