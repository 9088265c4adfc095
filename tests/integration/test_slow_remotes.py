"""A remote that answers late keeps nobody from writing; one whose gc deleted a pack is not taken for damaged."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.servers import Exchange, Proxy

from stockroom import AbsentDataError, RefChangedError, StockRoom

WRITE = """
import sys
from stockroom import StockRoom

with StockRoom(sys.argv[1]) as stock:
    if sys.argv[2] == "write":
        with stock.enable_write("in between", timeout_s=0.5):
            stock.data["own"] = [1, 2, 3]
    else:
        stock.checkout("other", create=True)
"""


class Gate:
    """Answers to requests wait here until they are let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def hold_up(self, _: Exchange) -> None:
        self.reached.set()
        assert self.opened.wait(60)


def work_during(act: Callable[[StockRoom], object], stock: StockRoom, proxy: Proxy, what: str) -> object:
    """What `act` returns, if another process does `what` while the remote keeps it waiting for metadata."""
    gate = Gate()
    proxy.add(r"GET .*/bundles/", gate.hold_up)
    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act, stock)
        try:
            assert gate.reached.wait(60)
            subprocess.run([sys.executable, "-c", WRITE, str(stock.path), what], check=True, timeout=60)
        finally:
            gate.opened.set()
        return acting.result(60)


@pytest.fixture
def pair(proxy: Proxy, tmp_path: Path) -> dict[str, Any]:
    """A clone `b`, whose remote has a newer commit from `a`."""
    remote: dict[str, Any] = {"url": f"s3://bucket/{tmp_path.name}", "endpoint_url": proxy.url}
    with StockRoom.init(tmp_path / "a") as source:
        with source.enable_write("base"):
            source.data["base"] = np.arange(600).reshape(20, 30)
        source.add_remote("origin", **remote)
        source.push()
        StockRoom.clone(path=tmp_path / "b", **remote).close()
        with source.enable_write("news"):
            source.data["news"] = np.arange(900).reshape(30, 30)
        source.push()
    return remote


def test_others_write_while_a_pull_downloads(pair: dict[str, Any], proxy: Proxy, tmp_path: Path) -> None:
    with StockRoom(tmp_path / "b") as clone:
        report = work_during(StockRoom.pull, clone, proxy, "write")
        assert report.outcome == "merged"  # type: ignore[attr-defined]
        assert set(clone.data) == {"base", "news", "own"}
        assert {commit.message for commit in clone.log()} >= {"base", "news", "in between"}


def test_a_pull_whose_branch_was_left_meanwhile_moves_nothing(
    pair: dict[str, Any], proxy: Proxy, tmp_path: Path
) -> None:
    with StockRoom(tmp_path / "b") as clone:
        before = clone.branches["main"]
        with pytest.raises(RefChangedError, match="'other' was checked out during the fetch for 'main'; run `stock"):
            work_during(StockRoom.pull, clone, proxy, "checkout")
        assert clone.branches == {"main": before, "other": before}


def test_a_clone_is_told_that_the_remotes_gc_deleted_what_it_reads(tmp_path: Path) -> None:
    url = str(tmp_path / "remote")
    with StockRoom.init(tmp_path / "a") as source:
        with source.enable_write("base"):
            source.data["base"] = np.arange(600).reshape(20, 30)
        source.add_remote("origin", url)
        source.checkout("old", create=True)
        with source.enable_write("old"):
            source.data["old"] = np.arange(9000, dtype=np.int32).reshape(300, 30)  # of another layout
        source.push()
        source.checkout("main")
        source.push()
        with StockRoom.clone(url, tmp_path / "b", metadata_only=True, ref="old") as clone:
            source.push(ref=":old")
            for _ in range(2):
                source.gc_remote(grace=timedelta(0))
            with pytest.raises(AbsentDataError, match="so `stock gc --remote` has probably deleted it: push") as caught:
                clone.data["old"][5]
            assert caught.value.remote == "origin"
            clone.fetch()
            with pytest.raises(AbsentDataError, match="so `stock gc --remote` has deleted it: push"):
                clone.data["old"][5]
            for pack in (tmp_path / "remote/packs").glob("*/*/c.*"):
                pack.unlink()
            with pytest.raises(AbsentDataError, match="its branches or tags need it: `stock fsck --remote` lists"):
                clone.data["base"][5]
