"""Samples read one by one: each block is decoded once, and each leaf node located once, when they are read in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork

from stockroom import StockRoom
from stockroom.store.pack import pack as pack_module
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.repack import plan_repack, repack

COUNT = 600
IMAGES = np.random.default_rng(4).integers(0, 4, (COUNT, 3000), dtype=np.uint8)
TEXTS = [f"{n} " * (1 + 7 * n % 90) for n in range(COUNT)]  # some inline
SCANS = [image[: 100 + n % 700].reshape(-1, 1) for n, image in enumerate(IMAGES[::-1])]
SCANS[50] = np.arange(5 << 20, dtype=np.uint8).reshape(-1, 1)  # one in several chunks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with StockRoom.init(tmp_path / "repo", name="n", email="e") as stock, stock.enable_write("all"):
        for codec in ("zstd", "lz4"):
            stock.data.create(codec, dtype="uint8", shape=(3000,), codec=codec)
        stock.data["zstd"].extend(IMAGES)
        stock.data["lz4"].extend(IMAGES ^ 1)
        stock.data["text"] = TEXTS
        stock.data.create("scan", dtype="uint8", shape=(None, 1), codec="zstd")
        stock.data["scan"].extend(SCANS)
    return tmp_path / "repo"


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> Iterator[list[int]]:
    """Count the calls of a function while it does its work."""
    called, calls = getattr(owner, name), [0]

    def count(*args: object, **named: object) -> object:
        calls[0] += 1
        return called(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, count)
        yield calls


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_an_encoded_column_read_in_order_decodes_each_block_once(
    path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = IMAGES if codec == "zstd" else IMAGES ^ 1
    with StockRoom(path) as stock, counting(monkeypatch, pack_module, "decode_block") as decoded:
        column = stock.data[codec]
        assert all(np.array_equal(column[n], expected[n]) for n in range(COUNT))
        assert decoded[0] == -(-COUNT // (65536 // 3000))
        for n in (5, 5, 6):
            sample = column[n]
            assert np.array_equal(sample, expected[n])
            sample[:] = 9  # the caller's own
        assert decoded[0] == -(-COUNT // (65536 // 3000))


def test_text_and_samples_of_varying_shape_read_in_order_are_located_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StockRoom(path) as stock:
        for name, expected in (("text", TEXTS), ("scan", SCANS)):
            column = stock.data[name]
            leaves = len(column._opened.tree.directory())
            with counting(monkeypatch, TensorStore, "locate") as located:
                assert all(np.array_equal(column[n], expected[n]) for n in range(COUNT))
            assert located[0] <= leaves + 15  # the first ones are found by descending the tree
            order = np.random.default_rng(1).permutation(COUNT).tolist()
            assert all(np.array_equal(column[n], expected[n]) for n in order)


def test_threads_reading_one_column_each_get_their_own_samples(path: Path) -> None:
    with StockRoom(path) as stock:
        column, wrong = stock.data["text"], []

        def read(start: int) -> None:
            wrong.extend(n for n in range(start, COUNT) if column[n] != TEXTS[n])

        threads = [threading.Thread(target=read, args=(start,)) for start in (0, 100, 350)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_forked_child_goes_on_reading_what_its_parent_was_reading(path: Path) -> None:
    with StockRoom(path) as stock:
        text, image = stock.data["text"], stock.data["zstd"]
        assert all(text[n] == TEXTS[n] and np.array_equal(image[n], IMAGES[n]) for n in range(300))

        def go_on() -> None:
            assert all(text[n] == TEXTS[n] and np.array_equal(image[n], IMAGES[n]) for n in range(300, COUNT))

        assert call_in_fork(go_on) == 0
        go_on()


def test_reading_in_order_goes_on_when_the_packs_are_rewritten(path: Path) -> None:
    with StockRoom(path) as reader:
        text, scan, image = reader.data["text"], reader.data["scan"], reader.data["zstd"]
        for n in range(200):
            assert text[n] == TEXTS[n]
            assert np.array_equal(scan[n], SCANS[n])
            assert np.array_equal(image[n], IMAGES[n])
        with StockRoom(path) as other:
            store = other._repository.tensors
            repack(store, plan_repack(store, codec="blosc"))
        reader._repository.tensors.cache.forget()
        for n in range(200, COUNT):
            assert text[n] == TEXTS[n]
            assert np.array_equal(scan[n], SCANS[n])
            assert np.array_equal(image[n], IMAGES[n])


def test_a_block_kept_in_memory_hides_no_damage_from_fsck(path: Path) -> None:
    with StockRoom(path) as stock:
        image = stock.data["zstd"]
        assert all(np.array_equal(image[n], IMAGES[n]) for n in range(COUNT))
        location = int(
            stock._repository.tensors.locate(np.frombuffer(bytes.fromhex(image.digest(0)), np.uint8)[None])[0]
        )
        pack = stock._repository.tensors.cache.get(location >> 32)
        shard = pack.directory / pack.layout.shard_name
        content = bytearray(shard.read_bytes())
        content[20] ^= 1
        shard.write_bytes(content)
        assert np.array_equal(image[0], IMAGES[0])
        report = stock.verify()
        assert any(pack.digest.hex() in str(damage) for damage in report.damage)
