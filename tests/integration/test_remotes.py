"""Push, fetch, pull, clone, prefetch and drop between real repositories, over a folder and over an S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.servers import find_nginx, serve_files

from stockroom import (
    AbsentDataError,
    ConflictError,
    InvalidInputError,
    MergeConflictError,
    RefChangedError,
    RefNotFoundError,
    RemoteError,
    RemoteNotFoundError,
    StockRoom,
)
from stockroom.remotes.agent.fetcher import AgentFetcher
from stockroom.remotes.push import push
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.testing.transports import CountingTransport

IMAGES = np.random.default_rng(1).integers(0, 256, (500, 3, 16, 16), dtype=np.uint8)


def make_source(path: Path) -> StockRoom:
    """Images, labels, zeros that compress, texts, arrays of many lengths, and one tensor of several chunks."""
    stock = StockRoom.init(path)
    with stock.enable_write("Samples"):
        stock.data["image"] = IMAGES
        stock.data["label"] = np.arange(500) % 10
        stock.data["zeros"] = np.zeros((300, 64, 64), np.float32)
        stock.data["caption"] = [f"caption {number} " * (number % 30) for number in range(200)]
        stock.data.create("scan", dtype="float32", shape=(None,))
        stock.data["scan"].update({n: np.arange(n, dtype=np.float32) for n in range(0, 5000, 250)})
        stock.data["large"] = np.arange(6_000_000, dtype=np.int32).reshape(2, -1)
    return stock


def check_equal(stock: StockRoom, other: StockRoom) -> None:
    """Every sample of every column, read through `stock`."""
    assert stock.commit_id == other.commit_id
    assert list(stock.data) == list(other.data)
    for name in other.data:
        mine, theirs = stock.data[name], other.data[name]
        assert mine.root == theirs.root
        for (key, value), (_, expected) in zip(mine.items(), theirs.items(), strict=True):
            assert np.array_equal(value, expected), (name, key)


def count_push(stock: StockRoom, remote: dict[str, Any]) -> CountingTransport:
    transport = CountingTransport(open_transport(RemoteSettings(remote["url"], remote.get("endpoint_url"))))
    push(stock._repository, "origin", resolve_push(stock._repository, None), transport=transport)
    return transport


def test_what_is_pushed_can_be_cloned_whole(remote: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **remote)
        report = source.push()
        assert report.packs >= 5
        assert source.remote_branches == {"origin/main": source.commit_id}
        assert source.push().moved == ()
        with StockRoom.clone(path=tmp_path / "b", **remote) as clone:
            presence = clone.measure_presence()
            assert presence.packs == presence.whole_packs == report.packs
            assert clone.branch == "main"
            assert clone.status().clean
            assert clone.verify().ok
            check_equal(clone, source)
    for path in (tmp_path / "a/.stockroom/packs").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert not list((tmp_path / "b").rglob("present"))


def test_a_clone_of_metadata_only_works_without_the_rest(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        source.create_tag("v1")
        source.push(ref="v1")
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        (tmp_path / "remote").rename(tmp_path / "away")  # nobody to ask from here on
        assert [commit.message for commit in clone.log()] == ["Samples"]
        assert clone.data["label"][7] == 7
        assert list(clone.data["label"].values())[:12] == [*range(10), 0, 1]
        assert clone.data["image"].digest(3)
        assert clone.tags == {"v1": clone.commit_id}
        assert clone.data["image"].present() == 0
        clone.checkout("dev", create=True)
        with clone.enable_write("Relabel and add"):
            clone.data["label"][7] = 1
            clone.data["image"][500] = IMAGES[0]
            clone.data["image"][501] = np.zeros((3, 16, 16), np.uint8)
        assert list(clone.diff("main", "dev")) == ["data/image", "data/label"]
        assert clone.verify().ok
        assert clone.measure_presence().present_nbytes < 2000
        with pytest.raises(AbsentDataError, match="remote 'origin' does not have it"):
            clone.data["image"][3]
        (tmp_path / "away").rename(tmp_path / "remote")
        assert np.array_equal(clone.data["image"][500], IMAGES[0])
        clone.push()
        commit = clone.commit_id
    with StockRoom(tmp_path / "a") as source:
        source.fetch()
        assert source.remote_branches["origin/dev"] == commit
        with StockRoom(tmp_path / "a", ref="origin/dev") as theirs:
            assert np.array_equal(theirs.data["image"][500], IMAGES[0])
            assert (theirs.data["image"][501] == 0).all()
            assert theirs.data["label"][7] == 1


def test_samples_come_as_they_are_read(remote: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **remote)
        source.push()
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **remote) as clone:
            image = clone.data["image"]
            assert np.array_equal(image[17], IMAGES[17])
            assert image.present([17]) == 1
            assert clone.measure_presence().present_nbytes < 3 * 768
            assert np.array_equal(image.take([400, 3, 3]), IMAGES[[400, 3, 3]])
            assert np.array_equal(clone.data["large"][1], source.data["large"][1])
            check_equal(clone, source)
            assert clone.verify().ok
            presence = clone.measure_presence()
            assert presence.whole_packs == presence.packs
        with StockRoom(tmp_path / "b", lazy=False) as again:  # all of it is here now
            check_equal(again, source)


def test_lazy_reading_can_be_turned_off(
    folder: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder).close()
    with StockRoom(tmp_path / "b", lazy=False) as clone, pytest.raises(AbsentDataError, match="lazy=False"):
        clone.data["image"][3]
    monkeypatch.setenv("STOCKROOM_NO_LAZY_FETCH", "1")
    with StockRoom(tmp_path / "b") as clone:
        with pytest.raises(AbsentDataError, match="STOCKROOM_NO_LAZY_FETCH"):
            clone.data["image"][3]
        assert clone.data["label"][3] == 3
        clone.prefetch("image", [3])  # asked for by name, it comes
        assert np.array_equal(clone.data["image"][3], IMAGES[3])
        clone.data["image"].prefetch([4])
        assert clone.drop().packs == 1
    with StockRoom.clone(path=tmp_path / "c", **folder) as whole:
        assert np.array_equal(whole.data["image"][3], IMAGES[3])


def test_opening_and_reading_labels_contacts_nobody(tmp_path: Path, folder: dict[str, Any]) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        source.remove_remote("origin")
        source.add_remote("origin", "s3://nowhere/x", endpoint_url="http://127.0.0.1:1")
    with StockRoom(tmp_path / "a") as again:
        assert again.data["label"][3] == 3
        assert np.array_equal(again.data["image"][3], IMAGES[3])
        assert list(again.log())
    assert not (tmp_path / "a/.stockroom/agent").exists()


def test_a_push_sends_what_is_new_and_no_more(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        with source.enable_write("Change one"):
            source.data["image"][9] = IMAGES[9] ^ 255
        transport = count_push(source, folder)
        assert transport.requests == {"get": 1, "put": 4, "put_if_absent": 1}
        assert transport.sent_nbytes < 64 << 10
        transport = count_push(source, folder)
        assert transport.requests == {"get": 2}
        with source.enable_write("Use again what is there"):
            source.data["copy"] = IMAGES
        transport = count_push(source, folder)
        assert transport.requests["put"] == 1  # the bundle
        assert transport.requests["list"] <= 2  # that the packs relied on are there


def test_a_pack_that_the_remote_lost_is_sent_again(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        for path in (tmp_path / "remote/packs").rglob("c.*"):
            path.write_bytes(path.read_bytes()[:-1])
        with source.enable_write("Use again what was there"):
            for name in ("image", "zeros", "caption", "scan", "large"):
                column = source.data[name]
                values = {f"{key}": value for key, value in column.items()}
                source.data[f"{name}-again"] = values
        source.push()
        with StockRoom.clone(path=tmp_path / "b", **folder) as clone:
            check_equal(clone, source)


def test_pull_fast_forwards_and_merges_what_diverged(remote: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as ours:
        ours.add_remote("origin", **remote)
        ours.push()
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **remote) as theirs:
            with theirs.enable_write("Theirs"):
                theirs.data["label"][0] = 5
            theirs.push()
            report = ours.pull()
            assert (report.new or b"").hex() == theirs.commit_id == ours.commit_id
            assert ours.data["label"][0] == 5
            assert ours.pull().new == report.new
            with ours.enable_write("Ours"):
                ours.data["label"][1] = 6
            with theirs.enable_write("Theirs too"):
                theirs.data["label"][2] = 7
            ours.push()
            with pytest.raises(RefChangedError, match="stock pull"):
                theirs.push()
            with pytest.raises(ConflictError, match="fast-forward"):
                theirs.pull(ff_only=True)
            assert theirs.pull().outcome == "merged"
            assert [int(label) for label in theirs.data["label"][[0, 1, 2]]] == [5, 6, 7]
            assert next(theirs.log()).message == "Merge origin/main into main"
            theirs.push()
            assert ours.pull().outcome == "fast-forward"
            assert ours.commit_id == theirs.commit_id
            check_equal(ours, theirs)


def test_a_pull_in_conflict_changes_nothing_unless_a_strategy_decides(remote: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as ours:
        ours.add_remote("origin", **remote)
        ours.push()
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **remote) as theirs:
            for stock, value in ((ours, 1), (theirs, 2)):
                with stock.enable_write("Relabel"):
                    stock.data["label"][0] = value
            ours.push()
            before = theirs.commit_id
            with pytest.raises(MergeConflictError, match="stock merge origin/main --no-commit") as caught:
                theirs.pull()
            assert [(conflict.path, conflict.key) for conflict in caught.value.conflicts] == [("data/label", 0)]
            assert (theirs.commit_id, theirs.status().clean) == (before, True)
            with StockRoom(tmp_path / "b", enable_write=True) as writer:
                writer.data["label"][5] = 9
            with pytest.raises(ConflictError, match="staged"):
                theirs.pull(strategy="theirs")
            theirs.reset()
            theirs.pull(strategy={"data/label": "theirs"})
            assert int(theirs.data["label"][0]) == 1
            assert theirs.measure_presence().present_nbytes == 0


def test_pull_while_changes_are_staged_is_fine_when_there_is_nothing_new(
    folder: dict[str, Any], tmp_path: Path
) -> None:
    with make_source(tmp_path / "a") as ours:
        ours.add_remote("origin", **folder)
        ours.push()
        with StockRoom(tmp_path / "a", enable_write=True) as writer:
            writer.data["label"][0] = 3
        assert ours.pull().outcome == "up to date"
        assert not ours.status().clean


def test_pull_into_a_new_repository_and_push_of_several_branches(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        source.checkout("dev", create=True)
        with source.enable_write("On dev"):
            source.data["label"][0] = 3
        source.push()
        with StockRoom.init(tmp_path / "b") as other:
            other.add_remote("origin", **folder)
            other.pull()
            assert other.branch == "main"
            assert set(other.remote_branches) == {"origin/main", "origin/dev"}
        source.push(ref=":dev")
        with StockRoom(tmp_path / "b") as other:
            other.fetch(prune=True)
            assert set(other.remote_branches) == {"origin/main"}


def test_refs_and_depth_of_a_clone(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        for number in range(6):
            with source.enable_write(f"Change {number}"):
                source.data["label"][0] = number
        source.create_tag("v1", at="HEAD~2")
        source.create_branch("dev", at="HEAD~1")
        for ref in ("main", "v1", "dev"):
            source.push(ref=ref)
        with StockRoom.clone(path=tmp_path / "tag", metadata_only=True, ref="v1", **folder) as clone:
            assert clone.branch is None
            assert clone.data["label"][0] == 3
        with StockRoom.clone(path=tmp_path / "dev", metadata_only=True, ref="dev", **folder) as clone:
            assert clone.branch == "dev"
        with pytest.raises(RefNotFoundError, match="no branch or tag 'nope'"):
            StockRoom.clone(path=tmp_path / "no", ref="nope", **folder)
        assert not (tmp_path / "no").exists()
        with StockRoom.clone(path=tmp_path / "deep", metadata_only=True, depth=2, **folder) as clone:
            assert [commit.message for commit in clone.log()] == ["Change 5", "Change 4"]
            assert clone.verify().ok
            with pytest.raises(RefNotFoundError, match="shallow"):
                clone.diff("HEAD~2", "HEAD")
            with clone.enable_write("On top"):
                clone.data["label"][0] = 9
            clone.push()
        source.pull()
        assert source.data["label"][0] == 9
        with StockRoom(tmp_path / "deep") as clone, source.enable_write("More"):
            source.data["label"][1] = 9
        source.push()
        with StockRoom(tmp_path / "deep") as clone:
            clone.pull()
            assert len(list(clone.log())) == 4


def test_clone_refuses_what_is_in_the_way(folder: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="expected a Stockroom remote"):
        StockRoom.clone(path=tmp_path / "b", **folder)
    assert not (tmp_path / "b").exists()
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(InvalidInputError, match="found files in it"):
        StockRoom.clone(path=tmp_path / "full", **folder)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    with pytest.raises(InvalidInputError, match="found files in it"):
        StockRoom.clone(path=tmp_path / "a", **folder)
    (tmp_path / "empty").mkdir()
    StockRoom.clone(path=tmp_path / "empty", **folder).close()


def test_prefetch_brings_what_was_chosen(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        plan = clone.prefetch("data/image", slice(0, 100), where="label == 3 or label in (4, 5)", dry_run=True)
        assert (plan.samples, plan.nbytes) == (30, 30 * 768)
        assert clone.measure_presence().present_nbytes == 0
        clone.prefetch("data/image", slice(0, 100), where="label == 3 or label in (4, 5)")
        chosen = [key for key in range(100) if key % 10 in (3, 4, 5)]
        assert clone.data["image"].present(chosen) == 1
        budget = clone.prefetch("data/image", [200, 201, 202], max_nbytes=2 * 768)
        assert (budget.nbytes, budget.left_out) == (2 * 768, 1)
        clone.data["image"].prefetch(range(300, 310))
        assert clone.data["image"].present(range(300, 310)) == 1
        clone.prefetch()
        presence = clone.measure_presence()
        assert presence.whole_packs == presence.packs
        for condition in (
            "__import__('os')",
            "label",
            "label == image",
            "1 == 1",
            "label ==",
            "f(label) == 1",
            "nope == 1",
        ):
            with pytest.raises((InvalidInputError, KeyError)):
                clone.prefetch("image", where=condition)


def test_drop_gives_back_only_what_a_remote_holds(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        assert source.drop().packs == 0
        source.add_remote("origin", **folder)
        source.push()
        with source.enable_write("Not pushed"):
            source.data["new"] = np.arange(4096, dtype=np.int64).reshape(4, -1)
        held = source.data["image"]
        assert np.array_equal(held[0], IMAGES[0])
        before = source.measure_presence()
        assert source.drop("data/image", dry_run=True).packs == 1
        report = source.drop()
        assert report.kept == 1
        assert report.nbytes > before.nbytes // 2
        after = source.measure_presence()
        assert after.packs - after.whole_packs == report.packs
        assert measure_disk(tmp_path / "a") < 1 << 20
        assert np.array_equal(np.asarray(held), IMAGES)  # what was open stays as it was
        with StockRoom(tmp_path / "a") as fresh:
            assert np.array_equal(fresh.data["image"][5], IMAGES[5])
            assert np.array_equal(fresh.data["new"][1], np.arange(1024, 2048))
            assert fresh.verify().ok
        for path in (tmp_path / "remote/packs").rglob("c.*"):
            path.unlink()
        with source.enable_write("Held no more"):
            source.data["other"] = IMAGES[:50] ^ 1
        assert source.drop().packs == 0


def measure_disk(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (path / ".stockroom/packs").rglob("c.*"))


def test_without_a_remote_that_can_give_it_a_prefetch_says_so(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        clone.remove_remote("origin")
        with pytest.raises(AbsentDataError, match="stock remote add"):
            clone.data["image"].prefetch([4])
        with pytest.raises(AbsentDataError, match="stock remote add"):
            clone.data["image"][4]


def test_remotes_are_named_changed_and_forgotten(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org") as stock:
        assert stock.remotes == {}
        stock.add_remote("backup", "gs://b/x")
        stock.add_remote("origin", "s3://b/x", endpoint_url="http://127.0.0.1:9", region="eu-west-1")
        assert list(stock.remotes.items()) == [("origin", "s3://b/x"), ("backup", "gs://b/x")]
        with pytest.raises(InvalidInputError, match="already exists"):
            stock.add_remote("origin", "s3://c")
        for name in ("", "a/b", "-x", ".."):
            with pytest.raises(InvalidInputError):
                stock.add_remote(name, "s3://c")
        stock.set_remote("origin", "s3://c/y")
        stock.remove_remote("backup")
        with pytest.raises(RemoteNotFoundError, match="known remotes: origin"):
            stock.push("backup")
    settings = json.loads((tmp_path / "a/.stockroom/remotes.json").read_text())
    assert settings == {"origin": {"url": "s3://c/y", "endpoint_url": None, "region": None}}
    with StockRoom(tmp_path / "a") as stock, stock.enable_write("x"):
        stock.data["x"] = np.arange(3)
    assert next(iter(StockRoom(tmp_path / "a").log())).author == "Ada"


def test_undo_does_not_take_back_what_others_did(folder: dict[str, Any], tmp_path: Path) -> None:
    """
    first---Second     origin/main; main is undone to first
    """
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        first = source.commit_id
        with source.enable_write("Second"):
            source.data["label"][0] = 4
        source.push()
        source.undo()
        assert source.commit_id == first
        assert source.remote_branches["origin/main"] != first


def test_samples_read_one_by_one_in_order_do_not_cost_a_request_each(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        image = clone.data["image"]
        for key in range(500):
            assert np.array_equal(image[key], IMAGES[key])
        fetcher = AgentFetcher(tmp_path / "b/.stockroom", has_remotes=lambda: True)
        assert fetcher.measure().requests < 20
        fetcher.close()


def test_a_reader_survives_a_drop_by_another(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        image = clone.data["image"]
        assert np.array_equal(image.take([1, 2, 3]), IMAGES[1:4])  # the pack is open, and partial
        with StockRoom(tmp_path / "b") as other:
            other.drop()
        assert np.array_equal(image.take([2, 400]), IMAGES[[2, 400]])
        assert np.array_equal(image[300], IMAGES[300])
        assert np.array_equal(np.asarray(image), IMAGES)


def test_a_clone_that_was_killed_before_its_first_file_is_begun_again(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
    (tmp_path / "b/.stockroom").mkdir(parents=True)
    StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder).close()
    (tmp_path / "c/.stockroom").mkdir(parents=True)
    (tmp_path / "c/.stockroom/mine").write_text("x")
    with pytest.raises(InvalidInputError, match="found files in it"):
        StockRoom.clone(path=tmp_path / "c", **folder)


def test_a_folder_behind_a_web_server_is_a_remote_to_read_from(folder: dict[str, Any], tmp_path: Path) -> None:
    if find_nginx() is None:
        pytest.skip("nginx is not installed: `apt-get install nginx-light`")
    with make_source(tmp_path / "a") as source:
        source.add_remote("origin", **folder)
        source.push()
        tmp_path.chmod(0o755)
        with serve_files(tmp_path / "remote", tmp_path / "nginx") as url:
            with StockRoom.clone(url, tmp_path / "b", metadata_only=True) as clone:
                assert np.array_equal(clone.data["image"][17], IMAGES[17])
                check_equal(clone, source)
                with clone.enable_write("Mine"):
                    clone.data["label"][0] = 5
                with pytest.raises(RemoteError, match="read-only"):
                    clone.push()
            with source.enable_write("Theirs"):
                source.data["label"][0] = 6
            source.push()
            with StockRoom.clone(url, tmp_path / "c") as clone:
                check_equal(clone, source)
