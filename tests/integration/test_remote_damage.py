"""Damage here is not pushed, damage there is found and healed, and nothing is given up for a damaged copy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockroom import CorruptionError, StockRoom
from stockroom.remotes.push import push
from stockroom.remotes.ref_updates import resolve_push
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
    """The gc runs while the push waits for the remote, after it has decided what to send."""
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
