"""Ctrl-C at any instant: what was reported stays, what goes on afterwards is whole, and nothing hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from stockroom import NothingToCommitError, StockRoom, StockroomError

# An interrupt that falls into a destructor goes nowhere, and Python says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

IMAGES = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)


class Interrupts:
    """Raises KeyboardInterrupt at the start of the nth call into Stockroom, one of the places where Python does."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    @property
    def has_struck(self) -> bool:
        return self.calls >= self.at

    @contextmanager
    def armed(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            with suppress(KeyboardInterrupt):
                yield
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "/stockroom/" in frame.f_code.co_filename:
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt


def _make_staged(folder: Path) -> StockRoom:
    with StockRoom.init(folder) as stock, stock.enable_write():
        stock.data["kept"] = IMAGES[:5]
        stock.data["text"] = ["x" * 50, "y" * 60]
    writer = StockRoom(folder, enable_write=True)
    writer.data["new"] = IMAGES[5:20]
    for key in range(3):
        writer.data["kept"][100 + key] = IMAGES[30 + key]
    writer.data["text"][7] = "z" * 100
    return writer


def _check_whole(stock: StockRoom) -> None:
    np.testing.assert_array_equal(stock.data["new"][:], IMAGES[5:20])
    np.testing.assert_array_equal(stock.data["kept"][[0, 100, 101, 102]], IMAGES[[0, 30, 31, 32]])
    assert stock.data["text"][7] == "z" * 100
    assert stock.status().clean
    assert stock.verify().damage == []


def _sweep(tmp_path: Path, act: Callable[[StockRoom], object], *, step: int) -> None:
    """Interrupt `act` at every `step`th call, then commit what is staged, or hear that it must be written again."""
    at = 1
    while True:
        folder = tmp_path / str(at)
        writer = _make_staged(folder)
        interrupts = Interrupts(at)
        with interrupts.armed():
            act(writer)
        refused = False
        try:
            writer.commit("again")
        except NothingToCommitError:
            pass
        except StockroomError as error:
            if "earlier write failed" not in str(error):
                raise
            refused = True
            writer.reset()
        writer.close()
        with StockRoom(folder, enable_write=True) as stock:
            if refused:
                assert sorted(stock.data) == ["kept", "text"]
                assert stock.verify().damage == []
            else:
                _check_whole(stock)
        if not interrupts.has_struck:
            return
        at += step


@pytest.mark.parametrize("step", [47, 53])
def test_a_commit_interrupted_anywhere_can_be_made_again_and_is_whole(tmp_path: Path, step: int) -> None:
    _sweep(tmp_path, lambda stock: stock.commit("first"), step=step)


def test_a_flush_interrupted_anywhere_leaves_a_stage_that_commits_whole(tmp_path: Path) -> None:
    _sweep(tmp_path, lambda stock: stock.flush(), step=43)


def test_a_look_at_the_status_interrupted_anywhere_takes_nothing_out_of_the_stage(tmp_path: Path) -> None:
    _sweep(tmp_path, lambda stock: stock.status().clean, step=29)


def test_an_interrupted_write_block_leaves_nothing_and_lets_the_next_one_in(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path) as stock:
        with stock.enable_write():
            stock.data["kept"] = IMAGES[:5]
        for at in range(1, 1600, 101):
            before = stock.commit_id
            interrupts = Interrupts(at)
            with interrupts.armed(), stock.enable_write():
                stock.data["kept"][5] = IMAGES[at % 40]
                stock.flush()
                stock.data["more"] = IMAGES[at % 40 :]
            assert stock.commit_id == before or "more" in stock.data
            with stock.enable_write():
                stock.data["kept"][6] = IMAGES[(at + 1) % 40]
                if "more" in stock.data:
                    del stock.data["more"]
            stock.refresh()
            assert "more" not in stock.data
            np.testing.assert_array_equal(stock.data["kept"][6], IMAGES[(at + 1) % 40])
        assert stock.verify().damage == []


def test_a_block_that_takes_back_what_it_flushed_leaves_no_stage(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path) as stock:
        with stock.enable_write():
            stock.data["kept"] = IMAGES[:5]
        first = stock.commit_id
        with stock.enable_write():
            stock.data["kept"][5] = IMAGES[5]
            stock.flush()
            del stock.data["kept"][5]
        assert stock.commit_id == first
        assert stock.status().clean


def test_threads_that_write_at_once_lose_no_sample(tmp_path: Path) -> None:
    interval = sys.getswitchinterval()
    samples = np.random.default_rng(0).integers(0, 255, (3000, 100), np.uint8)
    with StockRoom.init(tmp_path) as stock:
        sys.setswitchinterval(1e-5)
        try:
            with stock.enable_write(), ThreadPoolExecutor(6) as executor:
                column = stock.data.create("sample", dtype="uint8", shape=(100,))
                list(executor.map(lambda key: column.update({key: samples[key]}), range(0, 3000, 2)))
                list(executor.map(lambda key: column.__setitem__(key, samples[key]), range(1, 3000, 2)))
        finally:
            sys.setswitchinterval(interval)
        np.testing.assert_array_equal(stock.data["sample"][:], samples)
        assert stock.verify().damage == []
