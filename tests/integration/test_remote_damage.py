"""Damage here is not pushed, damage there is found and healed, and nothing is given up for a damaged copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.servers import BUCKET, Proxy

from stockroom import CorruptionError, StockRoom
from stockroom.cli import main
from stockroom.remotes.format.ref_state import make_following
from stockroom.remotes.push import push
from stockroom.remotes.ref_state_log import find_newest_state, publish_state
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.testing.transports import UnreliableTransport

NOISE = np.random.default_rng(1).integers(0, 256, (300, 40, 10), dtype=np.uint8)


def add_columns(stock: StockRoom, name: str, *, seed: int = 0) -> None:
    """One raw pack, one encoded pack and one ragged pack, committed."""
    with stock.enable_write(name):
        stock.data[f"{name}-raw"] = NOISE ^ seed
        stock.data[f"{name}-zeros"] = np.full((300, 400), seed, np.int64)
        ragged = stock.data.create(f"{name}-ragged", dtype="uint8", shape=(None,))
        ragged.extend([NOISE.reshape(-1)[n : n + 100 + n] ^ seed for n in range(50)])


@pytest.fixture
def source(folder: dict[str, Any], tmp_path: Path) -> StockRoom:
    """A repository with a remote `origin` that has no content yet."""
    stock = StockRoom.init(tmp_path / "a", name="Ada", email="ada@example.org")
    stock.add_remote("origin", **folder)
    add_columns(stock, "first")
    return stock


def flip(path: Path, at: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def find_shard(root: Path, *, is_raw: bool = True) -> Path:
    """A shard with rows of noise, or of zeros, which are encoded."""
    shards = sorted(root.rglob("packs/*/*/c.*"), key=lambda path: path.stat().st_size)
    return shards[-1] if is_raw else shards[0]


# -- damage here


def test_a_push_beside_a_gc_that_rewrites_packs_sends_them_as_they_were_or_as_they_are(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    """The gc runs while the push waits for the remote, after it has chosen its packs."""
    source.push()
    with source.enable_write("off"):
        source.data["off"] = NOISE ^ 77
    source.undo()
    source.push("origin", "main", force=True)
    source.gc_remote(grace=timedelta(0))
    for seed in range(1, 4):
        add_columns(source, f"more{seed}", seed=seed)
    (source.path / ".stockroom/remotes/origin/marks").unlink(missing_ok=True)
    repacked = []

    def repack(kind: str, path: str, done: bool) -> bool:
        if path.startswith(("marks/", "packs/")) and not done:
            with StockRoom(source.path) as other:
                repacked.append(other.gc(repack=True, grace=timedelta(0)).repacked)
        return False

    transport = UnreliableTransport(open_transport(RemoteSettings(folder["url"])), repack)
    push(source._repository, "origin", resolve_push(source._repository, None), transport=transport)
    assert sum(repacked)
    with StockRoom.clone(path=tmp_path / "b", **folder) as clone:
        assert clone.verify().ok
        assert np.array_equal(np.asarray(clone.data["more3-raw"]), NOISE ^ 3)


def damage_row(stock: StockRoom) -> None:
    flip(find_shard(stock.path / ".stockroom"))


def damage_block(stock: StockRoom) -> None:
    flip(find_shard(stock.path / ".stockroom", is_raw=False))


def damage_index(stock: StockRoom) -> None:
    flip(find_shard(stock.path / ".stockroom", is_raw=False), at=-6)


def damage_small_file(stock: StockRoom, name: str, at: int = -3) -> None:
    flip(find_shard(stock.path / ".stockroom").with_name(name), at)


def damage_object(stock: StockRoom) -> None:
    repository = stock._repository
    digest = bytes.fromhex(stock.data["first-raw"].root)

    def change(txn: Any) -> None:
        value = bytearray(txn.get("objects", digest))
        value[-1] ^= 1
        txn.put("objects", digest, bytes(value))

    repository.env.update(change)


@pytest.mark.parametrize(
    "damage",
    [
        damage_row,
        damage_block,
        damage_index,
        lambda stock: damage_small_file(stock, "zarr.json"),
        lambda stock: damage_small_file(stock, "chunks"),
        damage_object,
    ],
    ids=["row", "block", "index", "zarr.json", "chunks", "object"],
)
def test_what_is_damaged_here_is_not_pushed(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path, damage: Callable[[StockRoom], None]
) -> None:
    damage(source)
    source.close()
    with StockRoom(tmp_path / "a") as again:
        with pytest.raises(CorruptionError, match="stock fsck"):
            again.push()
        assert again.remote_branches == {}
    assert not list(Path(folder["url"]).glob("refs/0*"))


# -- damage there


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def find_marks(remote: Path) -> Path:
    """The table of marks in force."""
    state = find_newest_state(open_transport(RemoteSettings(str(remote))))
    assert state is not None
    assert state.marks is not None
    return next(remote.glob(f"marks/*/{state.marks.hex()}"))


DAMAGED = {
    "a row": lambda remote: flip(find_shard(remote)),
    "a block": lambda remote: flip(find_shard(remote, is_raw=False)),
    "a shard is lost": lambda remote: lose(find_shard(remote)),
    "a shard is cut": lambda remote: cut(find_shard(remote)),
    "zarr.json": lambda remote: flip(find_shard(remote).with_name("zarr.json")),
    "a manifest": lambda remote: flip(find_shard(remote).with_name("chunks"), -3),
    "a pack is lost": lambda remote: shutil.rmtree(find_shard(remote).parent),
    "a bundle": lambda remote: flip(next(remote.glob("bundles/*/*")), -3),
    "a bundle is lost": lambda remote: lose(next(remote.glob("bundles/*/*"))),
    "a bundle is cut": lambda remote: cut(next(remote.glob("bundles/*/*"))),
    "a ref state": lambda remote: flip(max(remote.glob("refs/0*")), -3),
    "marks": lambda remote: flip(find_marks(remote), -3),
    "marks are lost": lambda remote: lose(find_marks(remote)),
}


def check_whole(folder: dict[str, Any], path: Path, names: list[str]) -> None:
    with StockRoom.clone(path=path, **folder) as clone:
        assert clone.verify().ok
        assert sorted(clone.data) == sorted(f"{name}-{kind}" for name in names for kind in ("raw", "zeros", "ragged"))
        for name in names:
            assert np.array_equal(np.asarray(clone.data[f"{name}-raw"]), NOISE ^ (name == "second"))


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damage_of_a_remote_is_found_and_healed(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    add_columns(source, "second", seed=1)
    source.push()
    source.create_branch("gone")
    source.push(ref="gone")
    source.push(ref=":gone")
    with source.enable_write("off"):
        source.data["off"] = NOISE ^ 77
    source.push()
    source.undo()
    source.push(force=True)
    source.gc_remote(grace=timedelta(0))
    source.fetch()
    run = ["-C", str(source.path)]
    assert main([*run, "fsck", "--remote"]) == 0
    damage(Path(folder["url"]))
    code = main([*run, "fsck", "--remote", "origin", "--json"])
    said = capsys.readouterr()
    assert code == 15
    assert "push --repair" in said.out or "malformed" in said.err
    assert main([*run, "push", "--repair"]) == 0
    assert "0 left" in capsys.readouterr().err
    assert main([*run, "fsck", "--remote"]) == 0
    check_whole(folder, tmp_path / "b", ["first", "second"])
    add_columns(source, "third", seed=3)
    source.push()
    with StockRoom(tmp_path / "b") as clone:
        clone.pull()
        assert clone.verify().ok
    state = source._repository.refs  # nothing of the history has changed
    assert source.commit_id == state.branches()["main"].hex()


def test_a_sound_remote_is_left_as_it_is(source: StockRoom, folder: dict[str, Any]) -> None:
    source.push()
    before = {path: path.stat().st_mtime_ns for path in Path(folder["url"]).rglob("*") if path.is_file()}
    report = source.repair_remote()
    assert (report.ok, report.found, report.done, report.packs) == (True, [], [], 0)
    assert {path: path.stat().st_mtime_ns for path in Path(folder["url"]).rglob("*") if path.is_file()} == before
    found = source.verify_remote()
    assert (found.ok, found.packs, found.commits) == (True, 3, 1)
    assert found.nbytes > 100_000
    assert source.verify_remote(connectivity_only=True).nbytes == 0


def test_a_pack_that_was_rewritten_here_is_replaced_by_those_that_hold_its_chunks_now(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    source.push()
    add_columns(source, "second", seed=1)
    source.push()
    assert source.gc(grace=timedelta(0), repack=True).repacked
    flip(find_shard(Path(folder["url"])))
    source.close()
    with StockRoom(tmp_path / "a") as again:
        report = again.repair_remote()
        assert report.ok
        assert any("published again as state 3" in line for line in report.done)
    check_whole(folder, tmp_path / "b", ["first", "second"])


def test_what_is_not_sound_here_either_is_said_and_the_rest_is_healed(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    source.push()
    remote = Path(folder["url"])
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
        next(remote.glob("bundles/*/*")).unlink()
        flip(find_shard(remote))
        report = clone.repair_remote()
        assert [damage.where for damage in report.left] == [f"pack {find_shard(remote).parent.name}"]
        assert main(["-C", str(clone.path), "push", "--repair"]) == 15
    StockRoom.clone(path=tmp_path / "c", metadata_only=True, **folder).close()
    flip(find_shard(source.path / ".stockroom"), at=9)
    report = source.repair_remote()
    assert len(report.left) == 1
    assert any("is damaged here too" in line for line in report.done)
    flip(find_shard(source.path / ".stockroom"), at=9)
    assert source.repair_remote().ok
    check_whole(folder, tmp_path / "d", ["first"])


def test_a_history_with_a_gap_is_found_and_healed(source: StockRoom, folder: dict[str, Any], tmp_path: Path) -> None:
    """As a push from a shallow clone left it, before such pushes were refused."""
    source.push()
    add_columns(source, "second", seed=1)
    source.push()
    transport = open_transport(RemoteSettings(folder["url"]))
    state = find_newest_state(transport)
    assert state is not None
    publish_state(transport, make_following(state, bundles=state.bundles[1:]))
    with pytest.raises(CorruptionError, match="its history is incomplete"):
        StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder)
    assert source.push().moved == ()
    assert [damage.where for damage in source.verify_remote().damage] == ["state 3"]
    report = source.repair_remote()
    assert (report.ok, report.done) == (True, ["metadata: published again as state 4"])
    check_whole(folder, tmp_path / "b", ["first", "second"])


def test_a_shallow_clone_and_one_without_every_branch_heal_packs_but_not_history(
    source: StockRoom, folder: dict[str, Any], tmp_path: Path
) -> None:
    add_columns(source, "second", seed=1)
    source.push()
    with StockRoom.clone(path=tmp_path / "b", depth=1, **folder) as shallow:
        flip(find_shard(Path(folder["url"])))
        assert shallow.repair_remote().ok
        flip(next(Path(folder["url"]).glob("bundles/*/*")))
        report = shallow.repair_remote()
        assert not report.ok
        assert any("shallow clone" in line for line in report.done)
    assert source.repair_remote().ok
    check_whole(folder, tmp_path / "c", ["first", "second"])


# -- dropping


@pytest.mark.parametrize("partial", [False, True])
def test_a_pack_whose_copy_is_damaged_is_not_dropped(
    source: StockRoom, remote: dict[str, Any], tmp_path: Path, partial: bool
) -> None:
    source.set_remote("origin", **remote)
    source.push()
    transport = open_transport(RemoteSettings(**remote))
    shard = max(transport.iter_files("packs/"), key=lambda file: file.nbytes)
    stock = source
    if partial:
        stock = StockRoom.clone(path=tmp_path / "b", metadata_only=True, **remote)
        assert np.array_equal(stock.data["first-raw"].take(range(20, 280)), NOISE[20:280])
        assert len(stock.data["first-zeros"][5]) == 400
    content = bytearray(transport.get_range(shard.path, 0, shard.nbytes))
    content[200 * 400] ^= 1
    transport.put(shard.path, bytes(content))
    assert stock.drop(dry_run=True).kept == 0
    report = stock.drop()
    assert report.kept == 1
    assert report.packs == (1 if partial else 2)
    with StockRoom(stock.path, lazy=False) as again:
        assert np.array_equal(again.data["first-raw"][200], NOISE[200])
    source.repair_remote()
    assert stock.drop().packs == 1
    with StockRoom(stock.path) as again:
        assert np.array_equal(np.asarray(again.data["first-raw"]), NOISE)


def test_a_damaged_pack_is_dropped_for_a_sound_copy(source: StockRoom) -> None:
    source.push()
    flip(find_shard(source.path / ".stockroom"))
    assert source.drop().packs == 3
    with StockRoom(source.path) as again:
        assert np.array_equal(np.asarray(again.data["first-raw"]), NOISE)


def test_a_repair_reads_only_what_the_stores_checksum_does_not_answer_for(
    s3: str, source: StockRoom, tmp_path: Path
) -> None:
    with Proxy(s3) as proxy:
        url = {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpoint_url": proxy.url}
        source.set_remote("origin", **url)
        source.push()
        assert source.repair_remote().found == []
        assert proxy.count("GET .*/c\\.") == 0
        transport = open_transport(RemoteSettings(**url))
        shard = max(transport.iter_files("packs/"), key=lambda file: file.nbytes)
        transport.put(shard.path, bytes(shard.nbytes))
        assert source.repair_remote().packs == 1
        assert proxy.count("GET .*/c\\.") == 1
    with StockRoom.clone(url["url"], tmp_path / "b", endpoint_url=s3) as clone:
        assert clone.verify().ok


def test_a_checksum_of_the_store_saves_reading_the_copy(s3: str, source: StockRoom, tmp_path: Path) -> None:
    with source.enable_write("large"):  # put in parts
        source.data["large"] = np.random.default_rng(2).integers(0, 256, (7, 3 << 20), dtype=np.uint8)
    with Proxy(s3) as proxy:
        source.set_remote("origin", f"s3://{BUCKET}/{tmp_path.name}", endpoint_url=proxy.url)
        source.push()
        before = proxy.count("GET .*/c\\.")
        assert source.drop().packs == 4
        assert proxy.count("GET .*/c\\.") == before
