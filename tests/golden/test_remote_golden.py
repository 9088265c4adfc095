"""A frozen remote of version 1: it must be cloned for ever, to the same commits and samples.

A new version adds a folder beside it. If a test here fails, the code is wrong, not the files.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np

from stockroom import StockRoom

REMOTE = Path(__file__).parent / "data" / "remote_v1"
COMMIT = "e5de75459dd4a5158cf2c6f8771cc083a9c6320ffc6c1de43ed2e9c4d5ef33e2"
MARKED_COMMIT = "63c6f284d9b23d936bbba86c9fb5cbf56b79eaa2f0707858e01001cc08be4cd9"
TAG = "e52d17cded73b6b05bc267b5bad5a24a3cfde35a58410b6f5e62a75b5494a058"


def test_a_remote_of_version_1_is_cloned(tmp_path: Path) -> None:
    shutil.copytree(REMOTE, tmp_path / "remote")
    for metadata_only in (True, False):
        with StockRoom.clone(str(tmp_path / "remote"), tmp_path / f"{metadata_only}", metadata_only) as stock:
            assert stock.commit_id == COMMIT
            assert stock.tags == {"v1": TAG}
            assert [commit.message for commit in stock.log()] == ["Second", "First"]
            images = (np.arange(20 * 48) % 251).astype(np.uint8).reshape(20, 48)
            images[5] = 7
            assert np.array_equal(np.asarray(stock.data["image"]), images)
            assert stock.data["label"].take([2, 3, 4]).tolist() == [2, -1, 4]
            assert stock.data["zeros"][7].sum() == 0
            assert dict(stock.data["caption"].items()) == {"a": "one " * 20, "b": "zwei"}
            assert stock.verify().ok


def test_a_remote_with_marks_is_cloned_collected_and_pushed_to(tmp_path: Path) -> None:
    """State 4 is of version 2: a pack, and the bundle that told of it, were marked in November 2026."""
    shutil.copytree(REMOTE.with_name("remote_v2"), tmp_path / "remote")
    packs = {path.parent.name for path in (tmp_path / "remote").glob("packs/*/*/chunks")}
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone") as stock:
        assert stock.commit_id == MARKED_COMMIT
        images = (np.arange(20 * 48) % 251).astype(np.uint8).reshape(20, 48)
        assert np.array_equal(np.asarray(stock.data["image"]), images)
        with stock.enable_write("More"):
            stock.data["image"][20] = images[3] + 1
        assert stock.push().number == 5
        report = stock.gc_remote(grace=timedelta(seconds=1))
        assert (report.packs, report.bundles, report.waiting) == (1, 1, 0)
        assert stock.verify().ok
    left = {path.parent.name for path in (tmp_path / "remote").glob("packs/*/*/chunks")}
    assert len(packs - left) == 1
    assert len(packs & left) == 1
