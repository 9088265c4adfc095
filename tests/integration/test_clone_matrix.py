"""Every kind of clone from every kind of remote: it is read, follows what happens there, becomes deeper, and pushes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.servers import BUCKET, serve_plainly

from stockroom import ConflictError, RemoteError, StockRoom

IMAGES = np.random.default_rng(3).integers(0, 256, (40, 3, 16, 16), np.uint8)


@dataclass
class There:
    """A repository and what others clone of it: itself, or the remote that it pushes to."""

    stock: StockRoom
    url: dict[str, Any]
    folder: Path | None
    can_write: bool = False
    is_pushed: bool = True

    def publish(self) -> None:
        if self.is_pushed:
            self.stock.push(all_branches=True, tags=True, force=True)

    def list_files(self) -> list[str]:
        """Everything in its folder except locks, which readers take too."""
        found = [] if self.folder is None else sorted(str(path) for path in self.folder.rglob("*"))
        return [path for path in found if not path.endswith((".lock", "lock.mdb"))]


@pytest.fixture(params=["folder", "working repository", "s3", "web", "web without ranges"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[There]:
    stock = StockRoom.init(tmp_path / "source")
    remote = tmp_path / "remote"
    with ExitStack() as stack, stock:
        if request.param == "working repository":
            yield There(stock, {"url": str(tmp_path / "source")}, tmp_path / "source", is_pushed=False)
            return
        if request.param == "s3":
            endpoint = request.getfixturevalue("s3")
            url = {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpoint_url": endpoint}
            stock.add_remote("origin", **url)
            yield There(stock, url, None, can_write=True)
            return
        remote.mkdir()
        stock.add_remote("origin", str(remote))
        if request.param == "folder":
            yield There(stock, {"url": str(remote)}, remote, can_write=True)
            return
        url = {"url": stack.enter_context(serve_plainly(remote, has_ranges=request.param == "web"))}
        yield There(stock, url, remote)


@pytest.mark.parametrize("mode", ["full", "metadata only", "depth 1"])
def test_a_clone_follows_what_it_was_cloned_from(there: There, tmp_path: Path, mode: str) -> None:
    #     tag v1    dev
    #       |        |
    # A --- B --- C --- D main
    source, is_shallow = there.stock, mode == "depth 1"
    with source.enable_write("A"):
        source.data["image"] = IMAGES
    for number, message in enumerate("BCD", 1):
        with source.enable_write(message):
            source.data["image"][number] = np.full_like(IMAGES[0], number)
    source.create_tag("v1", at="HEAD~2")
    source.create_branch("dev", at="HEAD~1")
    there.publish()
    options = {"metadata_only": mode == "metadata only", "depth": 1 if is_shallow else None}
    with StockRoom.clone(path=tmp_path / "clone", **there.url, **options) as clone:
        assert clone.find_upstream() == "origin/main"
        assert set(clone.remote_branches) == ({"origin/main"} if is_shallow else {"origin/main", "origin/dev"})
        assert [commit.message for commit in clone.log()] == list("D" if is_shallow else "DCBA")
        _check_equal(clone, source)

        with source.enable_write("E"):
            source.data["image"][30] = np.zeros_like(IMAGES[0])
            source.data["late"] = IMAGES[:3]
        source.create_branch("late", at="HEAD~3")
        source.delete_tag("v1")
        source.create_tag("v1")
        there.publish()
        before = clone.tags.get("v1")
        report = clone.fetch()
        assert [tag.name for tag in report.rejected] == ([] if is_shallow else ["v1"])
        assert clone.tags["v1"] == (source.tags["v1"] if is_shallow else before)
        clone.fetch(force=True)
        assert clone.tags["v1"] == source.tags["v1"]
        assert ("origin/late" in clone.remote_branches) is not is_shallow
        clone.fetch(ref="late")
        assert clone.remote_branches["origin/late"] == source.branches["late"]
        if is_shallow:
            clone.fetch(deepen=1)
            assert [commit.message for commit in clone.log()] == list("DC")
            clone.fetch(unshallow=True)
        clone.pull()
        assert [commit.message for commit in clone.log()] == list("EDCBA")
        _check_equal(clone, source)
        assert clone.verify().ok

        with clone.enable_write("F"):
            clone.data["late"][0] = np.ones_like(IMAGES[0])
        files = there.list_files()
        if there.can_write:
            clone.push()
            assert source.pull().new is not None
            assert np.array_equal(source.data["late"][0], np.ones_like(IMAGES[0]))
        else:
            with pytest.raises(RemoteError if there.is_pushed else ConflictError, match="push"):
                clone.push()
            assert there.list_files() == files


def _check_equal(clone: StockRoom, source: StockRoom) -> None:
    assert set(clone.data) == set(source.data)
    for name in source.data:
        every = np.arange(len(source.data[name]))
        assert np.array_equal(clone.data[name].take(every), source.data[name].take(every))
