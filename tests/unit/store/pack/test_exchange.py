"""A pack that takes another's place in several steps: stopped at any of them, neither is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from stockroom.errors import CorruptionError
from stockroom.store.pack.exchange import exchange_in_steps, exchange_packs, finish_exchanges
from stockroom.store.pack.layout import list_pack_directories
from stockroom.store.pack.writer_folder import collect_leftovers


@pytest.fixture
def folder(put, rows, only_pack, tmp_path) -> Path:
    """Another folder of the store's pack, told by a file in it."""
    put(rows)
    made = shutil.copytree(only_pack(), tmp_path / "store/tmp/other")
    (made / "other").touch()
    return made


def stop_after(steps: int, folder: Path, target: Path) -> None:
    """Exchange folders in a process that is gone after so many renames."""
    pid = os.fork()
    if pid == 0:
        left, rename = steps, os.rename

        def count(*names: object) -> None:
            nonlocal left
            if not left:
                os._exit(0)
            left -= 1
            rename(*names)  # type: ignore[arg-type]

        os.rename = count
        exchange_in_steps(folder, target)
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("exchange", [exchange_packs, exchange_in_steps])
def test_each_is_where_the_other_was(exchange, folder, only_pack):
    exchange(folder, only_pack())
    assert (only_pack() / "other").exists()
    assert not (folder / "other").exists()
    assert (folder / "chunks").exists()
    assert len(list_pack_directories(only_pack().parent.parent)) == 1


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("found_by", ["a reader", "the next writer"])
def test_stopped_after_any_step_one_of_them_is_found_in_the_place(
    store, folder, only_pack, rows, tmp_path, steps, found_by
):
    target = only_pack()
    store.cache.forget()
    stop_after(steps, folder, target)
    assert target.exists() == (steps != 1)
    assert [path.name for path in list_pack_directories(store.packs_directory)] == [target.name] * (steps != 1)
    if found_by == "the next writer":
        collect_leftovers(store.tmp_directory, store.packs_directory)
        assert list(target.parent.iterdir()) == [target]
    (number,) = store.catalog.read_packs()
    pack = store.cache.get(number)
    assert (np.stack([pack.view_row(row) for row in range(pack.rows)]) == rows).all()
    assert (target / "other").exists() == (steps >= 2)


def test_a_lost_pack_is_still_missing_where_an_exchange_took_steps(store, folder, only_pack):
    exchange_in_steps(folder, only_pack())
    store.cache.forget()
    shutil.rmtree(only_pack())
    (number,) = store.catalog.read_packs()
    with pytest.raises(CorruptionError, match="missing"):
        store.cache.get(number)
    finish_exchanges(store.packs_directory)
