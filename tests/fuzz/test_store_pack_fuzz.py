"""Packs with mutated files: every row reads back as it was put, or the reader refuses. Nothing else happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, FormatVersionError
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.pack import Pack
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.verify import check_pack

ROWS = [bytes([i, 0, 0, 0]) * (10 + 5 * i) for i in range(20)]


@pytest.fixture(scope="module", params=["raw", "lz4", "zstd", "blosc"])
def pack_directory(request, tmp_path_factory) -> Path:
    store = TensorStore(tmp_path_factory.mktemp(request.param))
    writer = TensorWriter(store)
    for row in ROWS:
        writer.put_row(row, Stream("uint32", None, request.param))
    writer.flush()
    writer.close()
    (digest,) = store.catalog.read_packs().values()
    store.close()
    return store.packs_directory / digest.hex()[:2] / digest.hex()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_pack_with_a_mutated_file_is_read_right_refused_or_found_by_verify(pack_directory, data):
    path = data.draw(st.sampled_from(sorted(pack_directory.iterdir())))
    whole = path.read_bytes()
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        new = data.draw(st.binary(min_size=1, max_size=8))
        broken[at : at + len(new)] = new[: len(whole) - at]
    path.write_bytes(broken)
    try:
        is_right = _read_rows(pack_directory)
        damage = list(check_pack(pack_directory).damage)
    finally:
        path.write_bytes(whole)
    if bytes(broken) != whole:
        assert damage != []
    else:
        assert is_right
        assert damage == []


def _read_rows(directory: Path) -> bool:
    """Whether every row reads back as it was put; False also where the pack refuses."""
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        rows = list(range(min(pack.rows, len(ROWS))))
        pack.list_units(np.array(rows, np.int64))
        return [bytes(data) for data in pack.read_rows(rows)] == ROWS
    except (CorruptionError, FormatVersionError):
        return False
