"""Damaged packs: found, named, and never read as if they were whole."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError
from stockroom.store.pack.layout import list_pack_directories
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.verify import check_open_pack, check_pack

SMALL = [bytes([i]) * (40 + 7 * i) for i in range(12)]


@pytest.fixture(params=["uniform raw", "ragged raw", "uniform zstd", "ragged blosc"])
def pack_directory(request, put, only_pack):
    """A small pack, and every file of it under the name of its kind."""
    layout, codec = request.param.split()
    put(
        np.frombuffer(b"".join(row[:40] for row in SMALL), np.uint8).reshape(12, 40) if layout == "uniform" else SMALL,
        codec=codec,
    )
    return only_pack()


def test_a_whole_pack_has_no_damage(pack_directory):
    assert list(check_pack(pack_directory).damage) == []


def test_a_flipped_bit_anywhere_in_a_pack_is_found_and_the_pack_named(pack_directory):
    missed = []
    for path in sorted(pack_directory.iterdir()):
        whole = path.read_bytes()
        positions = range(len(whole)) if len(whole) < 1500 else range(0, len(whole), len(whole) // 1500)
        for position in positions:
            broken = bytearray(whole)
            broken[position] ^= 1 << (position % 8)
            path.write_bytes(broken)
            damage = list(check_pack(pack_directory).damage)
            if not damage or damage[0].where != f"pack {pack_directory.name}":
                missed.append((path.name, position))
        path.write_bytes(whole)
    assert missed == []


@pytest.mark.parametrize("change", ["cut", "grown", "emptied", "deleted"])
def test_a_file_of_another_size_is_damage_and_reading_it_names_the_file(store, pack_directory, change):
    number = min(store.catalog.read_packs())
    store.cache.forget()
    for path in sorted(pack_directory.iterdir()):
        whole = path.read_bytes()
        if change == "deleted":
            path.unlink()
        else:
            path.write_bytes({"cut": whole[:-1], "grown": whole + b"\0", "emptied": b""}[change])
        assert list(check_pack(pack_directory).damage) != []
        if path.name != "zarr.json":  # which reading does not need
            with pytest.raises(CorruptionError, match=str(path)):
                store.cache.get(number)
        path.write_bytes(whole)


def test_a_missing_pack_is_corruption_that_names_its_folder(store, put, rows, only_pack):
    digests = put(rows)
    locations = store.locate(digests, 1000)
    directory = only_pack()
    store.cache.forget()
    shutil.rmtree(directory)
    for read in (lambda: store.locate(digests), lambda: store.gather(locations, 1000)):
        with pytest.raises(CorruptionError, match=directory.name):
            read()


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("loss", ["folder", "manifest", "half the shard"])
def test_what_a_lost_or_broken_pack_held_is_stored_again_when_it_is_put_again(store, put, rows, only_pack, loss, order):
    digests = put(rows)
    directory = only_pack()
    store.cache.forget()
    shard = next(directory.glob("c.*"))
    if loss == "folder":
        shutil.rmtree(directory)
    elif loss == "manifest":
        (directory / "chunks").unlink()
    else:
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert not store.contains(digests).any()
    assert (put(rows[::order].copy()) == digests[::order]).all()  # in the same order they make the same pack
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()


def test_damage_in_one_pack_leaves_the_others_readable(store, put, rows, tmp_path):
    first, second = put(rows[:100], codec="zstd"), put(rows[100:], codec="zstd")
    number = min(store.catalog.read_packs())
    pack = store.cache.get(number)
    shard = pack.directory / pack.layout.shard_name
    data = bytearray(shard.read_bytes())
    data[50] ^= 1
    store.close()
    shard.write_bytes(data)
    again = TensorStore(tmp_path / "store")
    with pytest.raises(CorruptionError, match=f"{pack.directory} block 0"):
        again.gather(again.locate(first, 1000), 1000)
    assert (again.gather(again.locate(second, 1000), 1000) == rows[100:]).all()
    damaged = [d.name for d in list_pack_directories(again.packs_directory) if list(check_pack(d).damage)]
    assert damaged == [pack.directory.name]
    again.close()


def test_a_row_that_lies_outside_its_pack_is_refused(store, put, only_pack):
    put(SMALL)
    directory = only_pack()
    pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
    manifest = bytearray((directory / "chunks").read_bytes())
    manifest[-8 * pack.rows : -8 * pack.rows + 8] = (1 << 40).to_bytes(8, "little")  # the first row's length
    store.close()
    (directory / "chunks").write_bytes(manifest)
    broken = Pack(directory, pack.digest)
    with pytest.raises(CorruptionError, match="row 0 is outside"):
        broken.read_row(0)
    assert bytes(broken.read_row(1)) == SMALL[1]


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_an_open_pack_is_checked_as_it_is_on_disk_and_never_ends_the_process(store, put, rows, only_pack, codec):
    put(rows, codec=codec)
    pack = Pack(only_pack(), PackDigest(bytes.fromhex(only_pack().name)))
    check_open_pack(pack)
    shard = next(only_pack().glob("c.*"))
    whole = shard.read_bytes()
    with shard.open("r+b") as file:
        file.write(bytes([whole[0] ^ 1]))
    with pytest.raises(CorruptionError, match=r"\d+ of 300 chunks"):
        check_open_pack(pack)
    with shard.open("r+b") as file:
        file.truncate(len(whole) // 2)
    with pytest.raises(CorruptionError, match=r"expected \d+ bytes, found"):
        check_open_pack(pack)
    shard.unlink()
    shard.write_bytes(whole)
    with pytest.raises(StalePackError):  # another file is in its place
        check_open_pack(pack)
