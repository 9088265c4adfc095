"""Frozen bytes of the store's formats, version 1: they must be read for ever, and raw packs written the same way.

A new version adds files beside these. If a test here fails, the code is wrong, not the files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3

from stockroom.digest import PackDigest
from stockroom.store.chunking import decode_chunk_list, split_tensor
from stockroom.store.index.location_table import LocationTable, decode_table
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_writer import PackWriter
from stockroom.store.pack.presence import PresenceMap
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.verify import check_pack
from stockroom.testing.chunk_lists import list_chunks

DATA = Path(__file__).parent / "data" / "store_v1"
UNIFORM_ROWS = [np.arange(i, i + 6, dtype="<i2").tobytes() for i in range(5)]
RAGGED_ROWS = [(np.arange(n, dtype=np.float32) - n / 2).astype(ml_dtypes.bfloat16).tobytes() for n in (17, 40, 33, 64)]
ROWS = {name: RAGGED_ROWS if name.startswith("ragged") else UNIFORM_ROWS for name in (
    "uniform_raw", "uniform_lz4", "uniform_zstd", "uniform_blosc", "ragged_raw", "ragged_zstd"
)}  # fmt: skip
DIGESTS = {
    "uniform_raw": "b27584fda61f503c93b1594771422c2cb1834431615bdd50ecff20eb6fbd3423",
    "uniform_lz4": "5037d192958535102a42c0bcb666611f9f435ed5019bbb06f6c59aa4aaf6b4df",
    "uniform_zstd": "3329313fa0cfb776f540d4b085308df0ce289c3687b3720cf1c19311439443d7",
    "uniform_blosc": "05a4fde57390d9f6236c49b5aa91a264714158035638b9a1b66ccd6240455435",
    "ragged_raw": "108fa549ab279bda3f7ca85f03d1b8f72cfdb04cc3eda024efaf5ecffd7be55b",
    "ragged_zstd": "0277e81b438ad526362c396991b3fbf3e7788fe29b91b2c98758f6acf2dcf4d7",
}


def _find_pack(name: str) -> Path:
    return DATA / name / DIGESTS[name]


@pytest.mark.parametrize("name", ROWS)
def test_a_frozen_pack_is_still_read(name):
    directory = _find_pack(name)
    pack = Pack(directory, PackDigest(bytes.fromhex(DIGESTS[name])))
    rows = ROWS[name]
    assert [bytes(row) for row in pack.read_rows(list(range(pack.rows)))] == rows
    assert pack.manifest.digests.tobytes() == b"".join(blake3(row).digest() for row in rows)
    assert pack.manifest.compute_digest().hex() == DIGESTS[name]
    assert list(check_pack(directory).damage) == []


@pytest.mark.parametrize("name", ROWS)
def test_a_store_takes_a_frozen_pack_in(tmp_path, name):
    source = _find_pack(name)
    target = tmp_path / "packs" / source.name[:2] / source.name
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    store = TensorStore(tmp_path)
    digests = np.frombuffer(b"".join(blake3(row).digest() for row in ROWS[name]), np.uint8).reshape(-1, 32)
    assert [bytes(row) for row in store.read_many(store.locate(digests))] == ROWS[name]
    store.close()


@pytest.mark.parametrize("name", ["uniform_raw", "ragged_raw"])
def test_a_raw_pack_is_written_today_as_it_was_then(tmp_path, name):
    with ThreadPoolExecutor(1) as executor:
        dtype, shape = ("bfloat16", None) if name == "ragged_raw" else ("int16", (2, 3))
        writer = PackWriter(tmp_path / "new", dtype=dtype, item_shape=shape, codec="raw", executor=executor)
        for row in ROWS[name]:
            writer.append_row(row, blake3(row).digest())
        sealed = writer.seal()
        writer.publish(sealed, tmp_path / "pack")
    frozen = {path.name: path.read_bytes() for path in _find_pack(name).iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "pack").iterdir()} == frozen
    assert sealed.digest.hex() == DIGESTS[name]


def test_a_frozen_location_table_is_still_read():
    encoded = (DATA / "locations.table").read_bytes()
    table = decode_table(encoded, where="frozen")
    assert table.prefixes.tolist() == [1, 0x0102030405060708, 0x0102030405060708, 2**64 - 1]
    assert table.locations.tolist() == [7 << 32 | 9, 1 << 32, 2 << 32 | 1, (2**32 - 1) << 32 | 3]
    assert LocationTable(table.prefixes, table.locations).encode() == encoded


def test_a_frozen_presence_map_is_still_read(tmp_path):
    (tmp_path / "present").write_bytes((DATA / "present").read_bytes())
    presence = PresenceMap.open(tmp_path, 21)
    here = np.setdiff1d(np.arange(21), presence.list_absent(np.arange(21)))
    assert here.tolist() == [0, 3, 8, 20]
    PresenceMap.create(fresh := _make_folder(tmp_path / "fresh"), 21).add(here)
    assert (fresh / "present").read_bytes() == (DATA / "present").read_bytes()


def test_a_frozen_chunk_list_is_still_read():
    encoded = (DATA / "chunk_list").read_bytes()
    tensor = np.arange(1_200_000, dtype="<u4")
    chunks = split_tensor(tensor, 4_000_000)
    listed = decode_chunk_list(encoded, where="frozen")
    assert listed.tensor_digest == blake3(tensor.tobytes()).digest()
    assert [row.tobytes() for row in listed.digests] == [blake3(chunk).digest() for chunk in chunks]
    assert list_chunks(chunks, [blake3(chunk).digest() for chunk in chunks]).encode() == encoded


def _make_folder(path: Path) -> Path:
    path.mkdir()
    return path
