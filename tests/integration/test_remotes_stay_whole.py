"""No push, from any clone, leaves a remote that others cannot clone, fetch from and push to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.servers import BUCKET, Proxy

from stockroom import (
    InvalidInputError,
    InvalidNameError,
    RefChangedError,
    RefNotFoundError,
    RemoteError,
    StockRoom,
    UnreachableError,
)
from stockroom.cli import main
from stockroom.remotes.format.ref_state import make_following
from stockroom.remotes.push import push
from stockroom.remotes.ref_state_log import find_newest_state, publish_state
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.testing.transports import UnreliableTransport


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


# -- names that differ only in case or accents' form

PAIRS = [("Fix", "fix"), ("caf\u00e9", "cafe\u0301")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("kind", ["branch", "tag"])
@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_collides_with_another_of_the_remote_is_not_pushed(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path, first: str, second: str, kind: str, force: bool
) -> None:
    with clone(folder, tmp_path / "b") as other:
        for stock, name in ((source, first), (other, second)):
            (stock.create_branch if kind == "branch" else stock.create_tag)(name)
        source.push(ref=first)
        with pytest.raises(InvalidNameError, match=r"differs only in case .* choose another name"):
            other.push(ref=second, force=force)
        assert other.pull().fetched.left_out == ((f"tag/{first}", second),) * (kind == "tag")
        if kind == "branch":
            other.push(ref=f":{first}")
            other.push(ref=second)
            assert set(other.remote_branches) == {"origin/main", f"origin/{second}"}
    with clone(folder, tmp_path / "c") as third:
        assert third.verify().ok


def add_refs(folder: dict[str, Any], **refs: list[str]) -> None:
    """Publish a state with refs that no push of ours would make."""
    transport = open_transport(RemoteSettings(folder["url"]))
    state = find_newest_state(transport)
    assert state is not None
    tip = state.branches["main"]
    branches, tags = (dict.fromkeys(refs.get(kind, ()), tip) for kind in ("branches", "tags"))
    publish_state(transport, make_following(state, branches=state.branches | branches, tags=state.tags | tags))


def test_a_fetch_leaves_out_what_collides_says_so_and_brings_the_rest(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A remote of before, on which such names are: clone, fetch, pull and push work, and the names can be deleted."""
    clone(folder, tmp_path / "b").close()
    commit(source, "fourth")
    source.push()
    add_refs(folder, branches=["Fix", "fix", "Main", "dev"], tags=["V1", "v1"])
    url = folder["url"]
    assert main(["clone", "--metadata-only", url, str(tmp_path / "c")]) == 0
    said = capsys.readouterr().err
    assert "left out branch fix of origin: it differs from Fix" in said
    assert "left out tag v1" in said
    for path in (tmp_path / "b", tmp_path / "c"):
        assert main(["-C", str(path), "pull"]) == 0
        assert "left out branch Main of origin: it differs from main" in capsys.readouterr().err
        with StockRoom(path) as stock:
            assert set(stock.remote_branches) == {"origin/main", "origin/Fix", "origin/dev"}
            assert set(stock.tags) == {"V1"}
            assert [left.ref for left in stock.list_left_out()] == ["branch/Main", "branch/fix", "tag/v1"]
            commit(stock, path.name)
            stock.pull()
            stock.push()
    assert main(["-C", str(tmp_path / "b"), "fetch", "--json"]) == 0
    assert [left["ref"] for left in json.loads(capsys.readouterr().out)["left_out"]][-1] == "tag/v1"
    with StockRoom(tmp_path / "b") as stock:
        for name in (":Fix", ":Main"):
            stock.push(ref=name)
        stock.fetch()
        assert {"origin/fix", "origin/main"} <= set(stock.remote_branches)
        assert [left.ref for left in stock.fetch().left_out] == ["tag/v1"]


def test_a_name_that_another_clone_exchanged_for_a_colliding_one_stops_no_fetch_and_no_push(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    source.create_branch("Fix")
    source.push(ref="Fix")
    with clone(folder, tmp_path / "b") as other, clone(folder, tmp_path / "c") as third:
        other.push(ref=":Fix")
        other.create_branch("fix")
        other.push(ref="fix")
        assert third.fetch().left_out == (("branch/fix", "Fix"),)
        third.create_branch("fix")
        commit(third, "more")
        third.push()
        assert third.fetch(prune=True).left_out == ()
        assert set(third.remote_branches) == {"origin/main", "origin/fix"}


def test_a_branch_that_was_left_out_cannot_be_pulled_and_a_remote_needs_a_name_of_its_own(
    source: StockRoom, folder: dict[str, Any]
) -> None:
    add_refs(folder, branches=["Fix", "fix"])
    source.checkout("fix", create=True)
    with pytest.raises(RefNotFoundError, match="differs from 'Fix' only in case"):
        source.pull()
    with pytest.raises(InvalidNameError, match="differs from the existing 'origin'"):
        source.add_remote("Origin", folder["url"])


# -- remotes that vanish


@pytest.mark.parametrize("begun", ["pushed", "cloned", "shallow"])
def test_a_remote_that_vanished_is_not_begun_again_unless_that_is_allowed(
    remote: dict[str, Any], tmp_path: Path, begun: str
) -> None:
    """The share is not mounted, or the bucket is another one, with nothing in it."""
    stock = StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org")
    commit(stock, "first")
    stock.add_remote("origin", **remote)
    stock.push()
    if begun != "pushed":
        stock.close()
        stock = clone(remote, tmp_path / "b", depth=1 if begun == "shallow" else None)
    commit(stock, "second")
    if (tmp_path / "remote").exists():
        (tmp_path / "remote").rename(tmp_path / "unmounted")
    else:
        transport = open_transport(RemoteSettings(**remote))
        transport.delete([file.path for file in transport.iter_files("")])
    for _ in range(2):  # the refusal is not forgotten
        for refused in (stock.push, lambda: stock.push(ref=":main"), lambda: stock.push(force=True)):
            with pytest.raises(UnreachableError, match=r"seen there before, found none.*--allow-new-remote"):
                refused()
    assert not (tmp_path / "remote").exists()
    if begun == "pushed":
        for asked in (stock.fetch, stock.gc_remote):
            with pytest.raises(UnreachableError, match="seen there before"):
                asked()
    assert main(["-C", str(stock.path), "push"]) == 13
    if begun != "shallow":
        assert main(["-C", str(stock.path), "push", "--allow-new-remote"]) == 0
        with clone(remote, tmp_path / "c") as whole:
            assert [found.message for found in whole.log()] == ["second", "first"]
    stock.close()


def test_a_remote_that_is_mounted_again_is_the_one_that_it_was(source: StockRoom, tmp_path: Path) -> None:
    (tmp_path / "remote").rename(tmp_path / "unmounted")
    commit(source, "fourth")
    with pytest.raises(UnreachableError):
        source.push()
    (tmp_path / "unmounted").rename(tmp_path / "remote")
    assert source.push().number == 2


def test_a_first_push_that_ended_early_is_begun_again(tmp_path: Path) -> None:
    """Files of a push that published nothing are no remote that could vanish."""
    with StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org") as stock:
        commit(stock, "first")
        stock.add_remote("origin", str(tmp_path / "remote"))
        inner = open_transport(RemoteSettings(str(tmp_path / "remote")))
        for path in ("refs/latest", "bundles"):
            transport = UnreliableTransport(inner, lambda _, put, done, path=path: done and put.startswith(path))
            with suppress(UnreachableError):
                push(stock._repository, "origin", resolve_push(stock._repository, None), transport=transport)
            (tmp_path / "remote").rename(tmp_path / f"left-by-{path[:4]}")
            inner = open_transport(RemoteSettings(str(tmp_path / "remote")))
        assert stock.push().number == 1


def test_a_share_that_is_unmounted_during_a_push_gets_nothing_in_its_place(source: StockRoom, tmp_path: Path) -> None:
    commit(source, "fourth")
    gone: list[str] = []

    def unmount(kind: str, path: str, done: bool) -> bool:
        if path.startswith("bundles") and not done:
            gone.append(path)
            (tmp_path / "remote").rename(tmp_path / "unmounted")
            (tmp_path / "remote").mkdir()  # the mount point
        return False

    transport = UnreliableTransport(open_transport(RemoteSettings(str(tmp_path / "remote"))), unmount)
    with pytest.raises(UnreachableError, match="check that it is mounted"):
        push(source._repository, "origin", resolve_push(source._repository, None), transport=transport)
    assert gone
    assert not list((tmp_path / "remote").iterdir())


def test_a_remote_with_another_url_is_another_remote(source: StockRoom, tmp_path: Path) -> None:
    source.set_remote("origin", str(tmp_path / "elsewhere"))
    assert source.push().number == 1
    source.remove_remote("origin")
    source.add_remote("origin", str(tmp_path / "third"))
    assert source.push().number == 1
    with clone({"url": str(tmp_path / "third")}, tmp_path / "c") as whole:
        assert whole.verify().ok


# -- stores that create a file twice


@pytest.fixture
def careless(s3: str) -> Iterator[Proxy]:
    """A server that ignores `If-None-Match`."""
    with Proxy(s3, drop_headers=("if-none-match",)) as proxy:
        yield proxy


def test_a_store_that_ignores_conditions_is_found_out_at_the_first_push(careless: Proxy, tmp_path: Path) -> None:
    url = {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpoint_url": careless.url}
    with StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org") as stock:
        commit(stock, "first")
        stock.add_remote("origin", **url)
        for _ in range(2):
            with pytest.raises(RemoteError, match=r"create a file that exists \(`If-None-Match: \*`\)"):
                stock.push()
        assert careless.count("PUT") == 4
        assert careless.count("PUT .*/(packs|bundles|refs/0)") == 0


def test_every_repository_looks_once_whether_conditions_are_honoured(
    s3: str, careless: Proxy, tmp_path: Path, source: StockRoom
) -> None:
    url = f"s3://{BUCKET}/{tmp_path.name}"
    source.add_remote("store", url, endpoint_url=s3)
    source.push("store")
    with clone({"url": url, "endpoint_url": careless.url}, tmp_path / "b") as other:
        commit(other, "fourth")
        with pytest.raises(RemoteError, match="If-None-Match"):
            other.push()
        other.set_remote("origin", url, endpoint_url=s3)
        other.push()
        before = (tmp_path / "b/.stockroom/remotes/origin/exclusive").stat()
        commit(other, "fifth")
        other.push()
        assert (tmp_path / "b/.stockroom/remotes/origin/exclusive").stat() == before


# -- folders that exist already


def test_a_clone_beside_what_is_left_of_a_repository_is_refused_and_removes_nothing(
    source: StockRoom, folder: dict[str, Any]
) -> None:
    (source.path / ".stockroom/format").unlink()
    before = sorted(source.path.rglob("*"))
    with pytest.raises(InvalidInputError, match="found one with files that no clone left; move it away"):
        StockRoom.clone_here(source.path, "s3://nowhere/x", endpoint_url="http://127.0.0.1:9")
    assert sorted(source.path.rglob("*")) == before
