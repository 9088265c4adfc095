"""Repacking: rows move to other packs and codecs; digests, locations' answers and history stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.errors import DigestMismatchError, LockedError
from stockroom.store.codecs import Codec
from stockroom.store.pack.layout import list_pack_directories, locate_pack
from stockroom.store.pack.presence import PresenceMap
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.removal import forbid_removal, lock_removal
from stockroom.store.upkeep.repack import plan_repack, repack
from stockroom.store.upkeep.verify import check_pack


def _codecs(store: TensorStore) -> list[str]:
    return sorted(str(store.cache.get(number).layout.codec) for number in store.catalog.read_packs())


def _is_whole(store: TensorStore) -> bool:
    folders = list_pack_directories(store.packs_directory)
    registered = {digest.hex() for digest in store.catalog.read_packs().values()}
    return {folder.name for folder in folders} == registered and not any(
        damage for folder in folders for damage in check_pack(folder).damage
    )


def test_many_small_packs_become_one(store, put, rows):
    digests = np.concatenate([put(rows[i : i + 10]) for i in range(0, 300, 10)])
    plan = plan_repack(store)
    assert len(plan.packs) == 30
    assert len(store.catalog.read_packs()) == 30  # planning changes nothing
    report = repack(store, plan)
    assert (len(report.made), len(report.removed)) == (1, 30)
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
    assert len(store.catalog.read_packs()) == 1
    assert _is_whole(store)
    assert list(store.tmp_directory.iterdir()) == []
    assert plan_repack(store).packs == ()


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_is_turned_into_every_other(store, put, rows, codec):
    parts = [rows[i * 75 : (i + 1) * 75] for i in range(4)]
    digests = [put(part, codec=old) for part, old in zip(parts, Codec, strict=True)]
    ragged = put([row[: 33 + i].tobytes() for i, row in enumerate(rows)], codec="zstd")
    repack(store, plan_repack(store, codec=codec))
    assert _codecs(store) == [codec, codec]
    assert (store.gather(store.locate(np.concatenate(digests), 1000), 1000) == rows).all()
    read = store.read_many(store.locate(ragged))
    assert [bytes(data) for data in read] == [row[: 33 + i].tobytes() for i, row in enumerate(rows)]
    assert _is_whole(store)
    assert plan_repack(store, codec=codec).packs == ()


def test_packs_of_other_dtypes_and_shapes_are_not_mixed(store, put, rows):
    put(rows[:10])
    put(rows[10:20, :500].copy())
    put([row.tobytes() for row in rows[20:30]])
    assert plan_repack(store).packs == ()
    repack(store, plan_repack(store, codec="lz4"))
    assert _codecs(store) == ["lz4"] * 3


def test_a_partial_pack_is_left_as_it_is(store, put, rows, only_pack):
    put(rows)
    PresenceMap.create(only_pack(), 300)
    store.cache.forget()
    assert plan_repack(store, codec="zstd").packs == ()


def test_a_chunk_whose_bytes_are_elsewhere_absent_is_not_dropped(store, put, rows, tmp_path):
    digests = put(rows)
    whole = locate_pack(store.packs_directory, store.catalog.read_packs()[min(store.catalog.read_packs())])
    kept = tmp_path / "kept"
    whole.rename(kept)
    store.index.unregister(list(store.catalog.read_packs()))
    store.cache.forget()
    put(rows[::-1].copy(), codec="lz4")
    (partial,) = list_pack_directories(store.packs_directory)
    PresenceMap.create(partial, 5)
    kept.rename(whole)
    store.recover()
    plan = plan_repack(store, codec="zstd")
    assert [pack.digest.hex() for pack in plan.packs] == [whole.name]
    repack(store, plan)
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()


def test_a_damaged_chunk_stops_repacking_and_nothing_is_removed(store, put, rows):
    first, _ = put(rows[:100]), put(rows[100:])
    number = min(store.catalog.read_packs())
    pack = store.cache.get(number)
    shard = pack.directory / pack.layout.shard_name
    data = bytearray(shard.read_bytes())
    data[5 * 1000 + 3] ^= 1
    store.cache.forget()
    shard.write_bytes(data)
    before = store.catalog.read_packs()
    with pytest.raises(DigestMismatchError, match=f"{pack.digest.hex()} row 5"):
        repack(store, plan_repack(store, codec="zstd"))
    assert before.items() <= store.catalog.read_packs().items()
    assert all(locate_pack(store.packs_directory, digest).is_dir() for digest in before.values())
    assert store.contains(first).all()
    assert list(store.tmp_directory.iterdir()) == []


def test_packs_rewritten_with_the_same_codec_alone_are_kept(store, put, rows):
    digests = put(rows, codec="zstd")
    other = TensorStore(store.packs_directory.parent)
    plan = plan_repack(other, codec="raw")
    again = plan.__class__(tuple(_with_codec(pack, "zstd") for pack in plan.packs))
    report = repack(other, again)
    assert report.removed == ()
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
    assert _is_whole(store)
    other.close()


def test_two_processes_never_remove_packs_at_once(store, put, rows):
    put(rows)
    other = TensorStore(store.packs_directory.parent)
    with lock_removal(other), pytest.raises(LockedError, match="another process is removing or fetching packs"):
        repack(store, plan_repack(store, codec="zstd"))
    assert len(repack(store, plan_repack(store, codec="zstd")).removed) == 1
    other.close()


def test_whoever_removes_packs_waits_for_another_to_be_done(store, monkeypatch):
    other = ExitStack()
    other.enter_context(forbid_removal(store, timeout_s=0))
    monkeypatch.setattr("stockroom.locks.time.sleep", lambda _: other.close())
    with lock_removal(store, timeout_s=60), pytest.raises(LockedError), forbid_removal(store, timeout_s=0):
        pass


def _with_codec(pack, codec):
    return type(pack)(pack.number, pack.digest, pack.dtype, pack.item_shape, codec, pack.rows, pack.nbytes)


_REPACK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from stockroom.kv import Environment
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.repack import plan_repack, repack

steps = int(sys.argv[2])
counted = 0

def die_at(event, arguments):
    global counted
    is_change = event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
    if is_change or (event == "open" and "store" in str(arguments[0])):
        counted += 1
        if counted == steps:
            os.kill(os.getpid(), signal.SIGKILL)

store = TensorStore(Path(sys.argv[1]))
plan = plan_repack(store, codec="zstd")
sys.addaudithook(die_at)
repack(store, plan)
"""


def test_killed_at_any_step_every_chunk_is_readable_and_repacking_again_finishes(tmp_path, put, rows):
    deaths = 0
    for step in range(1, 60, 4):
        root = tmp_path / f"store{step}"
        made = TensorStore(root)
        digests = np.concatenate([put(rows[:150], into=made), put(rows[150:], into=made)])
        made.close()
        died = subprocess.run([sys.executable, "-c", _REPACK_AND_DIE, str(root), str(step)], check=False).returncode
        assert died in (0, -signal.SIGKILL)
        deaths += died != 0
        store = TensorStore(root)
        assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
        store.recover()
        repack(store, plan_repack(store, codec="zstd"))
        assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
        assert _codecs(store) == ["zstd"]
        assert _is_whole(store)
        store.close()
        if died == 0:
            break
    assert deaths >= 3


def _write_with_changing_codec(root: Path) -> tuple[StockRoom, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50, (240, 20, 20)).astype(np.uint8)
    scans = [rng.integers(0, 9, (5 + i, 30)).astype(np.float32) for i in range(40)]
    stock = StockRoom.init(root, name="Ada Lovelace", email="ada@example.org")
    for start in range(0, 120, 10):
        with stock.enable_write(f"raw {start}"):
            if start == 0:
                stock.data.create("image", dtype="uint8", shape=(20, 20), codec="raw")
                stock.data.create("scan", dtype="float32", shape=(None, 30), codec="raw")
            stock.data["image"].extend(rows[start : start + 10])
            stock.data["scan"].extend(scans[start // 5 : start // 5 + 2])
    with stock.enable_write("zstd from here on"):
        stock.data["image"].codec = "zstd"
        stock.data["image"].extend(rows[120:])
        stock.data["scan"].extend(scans[24:])
    return stock, {"image": rows, "scan": np.array(scans, dtype=object)}


def test_change_of_codec_midway_and_repacking_leave_history_and_open_readers_as_they_were(tmp_path):
    writer, content = _write_with_changing_codec(tmp_path / "repo")
    reader = StockRoom(tmp_path / "repo")
    tensors = reader._repository.tensors
    tensors.cache.forget()
    tensors.cache.limit = 4
    image, scan = reader.data["image"], reader.data["scan"]
    assert (image[:] == content["image"]).all()  # from here on it knows where every row lies
    history = [(commit.id, commit.parents) for commit in writer.log()]
    digests = [image.digest(key) for key in (0, 119, 239)]
    before = len(tensors.catalog.read_packs())

    store = writer._repository.tensors
    report = repack(store, plan_repack(store, codec="blosc"))
    assert before - len(report.removed) + len(report.made) == len(store.catalog.read_packs()) < 10
    assert _is_whole(store)

    for handle in (reader, StockRoom(tmp_path / "repo"), writer):
        for key in (3, 77, 200):
            assert (handle.data["image"][key] == content["image"][key]).all()
        assert (handle.data["image"].take([239, 0, 5]) == content["image"][[239, 0, 5]]).all()
        assert (handle.data["image"].view(50) == content["image"][50]).all()
    assert (image[::-1] == content["image"][::-1]).all()
    assert all((scan[key] == content["scan"][key]).all() for key in range(40))
    assert [(commit.id, commit.parents) for commit in StockRoom(tmp_path / "repo").log()] == history
    assert [image.digest(key) for key in (0, 119, 239)] == digests
    assert writer.verify().ok


def test_a_reader_in_another_process_goes_on_while_packs_are_rewritten_under_it(tmp_path):
    writer, content = _write_with_changing_codec(tmp_path / "repo")
    store = writer._repository.tensors
    child = os.fork()
    if child == 0:
        status = 1
        try:
            reader = StockRoom(tmp_path / "repo")
            tensors = reader._repository.tensors
            tensors.cache.forget()
            tensors.cache.limit = 4
            rng = np.random.default_rng(0)
            for _ in range(60):
                order = rng.integers(0, 240, 40)
                assert (reader.data["image"].take(order) == content["image"][order]).all()
                key = int(order[0]) % 40
                assert (reader.data["scan"][key] == content["scan"][key]).all()
            status = 0
        finally:
            os._exit(status)
    for codec in ("zstd", "raw", "lz4", "blosc", "raw", "zstd"):
        repack(store, plan_repack(store, codec=codec))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (writer.data["image"][:] == content["image"]).all()
