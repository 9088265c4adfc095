"""Small files of settings: concurrent changes of several processes are all kept."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from stockroom import StockRoom
from stockroom.repository.config import change_settings, read_settings
from stockroom.repository.settings_file import SettingsFile

PROCESSES, CHANGES = 4, 100


def _change_much(root: Path, number: int) -> None:
    with StockRoom(root) as stock:
        for i in range(CHANGES // 2):
            stock.add_remote(f"r{number}-{i}", f"/somewhere/{number}/{i}")
            change_settings(
                root / ".stockroom/config.json",
                lambda known, i=i: type(known)(upstreams={**known.upstreams, f"b{number}-{i}": f"r{number}-{i}/main"}),
            )


def test_no_change_of_several_processes_is_lost(tmp_path: Path) -> None:
    StockRoom.init(tmp_path).close()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_change_much, args=(tmp_path, number)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    expected = {f"r{number}-{i}" for number in range(PROCESSES) for i in range(CHANGES // 2)}
    with StockRoom(tmp_path) as stock:
        assert set(stock.remotes) == expected
    upstreams = read_settings(tmp_path / ".stockroom/config.json").upstreams
    assert {at.partition("/")[0] for at in upstreams.values()} == expected
    assert not list((tmp_path / ".stockroom").glob("*.new"))


def test_a_change_that_fails_writes_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    file: SettingsFile[bytes] = SettingsFile(tmp_path / "file", bytes, bytes, b"default")
    with pytest.raises(ZeroDivisionError):
        file.change(lambda _: bytes(1 // 0))
    assert not (tmp_path / "file").exists()
    assert file.change(lambda old: old + b"!") == b"default!"
    assert file.read() == b"default!"
