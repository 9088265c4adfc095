"""Whatever is pushed, and from where, the remote can still be cloned, fetched from and pushed to by everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockroom import RefChangedError, StockRoom


def commit(stock: StockRoom, message: str) -> str:
    with stock.enable_write(message):
        stock.data[message.replace(" ", "-")] = np.arange(8)
    assert stock.commit_id is not None
    return stock.commit_id


def clone(url: dict[str, Any], path: Path, **options: Any) -> StockRoom:
    return StockRoom.clone(path=path, metadata_only=True, **url, **options)


@pytest.fixture
def source(folder: dict[str, Any], tmp_path: Path) -> StockRoom:
    """first---second---third     main, pushed to `origin`"""
    stock = StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org")
    for message in ("first", "second", "third"):
        commit(stock, message)
    stock.add_remote("origin", **folder)
    stock.push()
    return stock


# -- shallow clones


@pytest.mark.parametrize("kind", ["branch", "tag", "forced"])
def test_a_shallow_clone_pushes_nothing_whose_history_the_remote_lacks(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    with clone(folder, tmp_path / "b", depth=1) as shallow:
        commit(shallow, "on top")
        shallow.create_tag("v1")
        shallow.add_remote("other", str(tmp_path / "other"))
        with pytest.raises(RefChangedError, match=r"shallow clone .* push from a clone with the whole history"):
            shallow.push("other", "v1" if kind == "tag" else "main", kind == "forced")
        assert not list((tmp_path / "other").rglob("0*"))
        shallow.push()
    source.add_remote("other", str(tmp_path / "other"))
    source.pull()
    source.push("other")
    with clone({"url": str(tmp_path / "other")}, tmp_path / "c") as whole:
        assert [found.message for found in whole.log()] == ["on top", "third", "second", "first"]


def test_a_shallow_clone_pushes_what_is_on_top_of_anything_that_the_remote_has(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    """
    first---second---third---theirs     main, which the shallow clone has not fetched
                          \\
                           ours         dev
    """
    with clone(folder, tmp_path / "b", depth=1) as shallow:
        commit(source, "theirs")
        source.push()
        shallow.checkout("dev", create=True)
        commit(shallow, "ours")
        report = shallow.push()
        assert report.packs == 0
    with clone(folder, tmp_path / "c", ref="dev") as whole:
        assert [found.message for found in whole.log()] == ["ours", "third", "second", "first"]
        assert whole.verify().ok


def test_a_shallow_clone_brings_a_remote_on_from_the_parent_that_it_left_out(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    """
    first---second     main of `other`
                  \\
                   third---on top     the shallow clone has no commit before `third`
    """
    other = {"url": str(tmp_path / "other")}
    source.add_remote("other", **other)
    source.create_branch("old", at="HEAD~1")
    source.push("other", "old")
    with clone(folder, tmp_path / "b", depth=1) as shallow:
        commit(shallow, "on top")
        shallow.add_remote("other", **other)
        shallow.push("other")
    with clone(other, tmp_path / "c", ref="main") as whole:
        assert [found.message for found in whole.log()] == ["on top", "third", "second", "first"]
        assert [len(whole.data[name]) for name in whole.data] == [8] * 4
        assert whole.verify().ok
