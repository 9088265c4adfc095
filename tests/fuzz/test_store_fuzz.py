"""Mutated bytes of every format of the store: an error that says so, or something consistent; never a crash."""

from __future__ import annotations

import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom.errors import CorruptionError, FormatVersionError
from stockroom.store.chunking import CHUNK_MAX_NBYTES, decode_chunk_list, split_tensor
from stockroom.store.codecs import CRC_NBYTES, Codec, decode_block, encode_block
from stockroom.store.index.location_table import LocationTable, decode_table
from stockroom.store.pack.layout import PackLayout
from stockroom.store.pack.manifest import Manifest, decode_manifest
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.shard import decode_index, encode_index
from stockroom.testing.chunk_lists import list_chunks

REFUSALS = (CorruptionError, FormatVersionError)
DIGESTS = np.arange(160, dtype=np.uint8).reshape(5, 32)
MANIFESTS = [
    Manifest(PackLayout("int16", (2, 3), Codec.ZSTD, 4), 5, 999, b"z" * 32, DIGESTS, None, None).encode(),
    Manifest(
        PackLayout("float8_e5m2", None, Codec.RAW, 320),
        320,
        999,
        b"z" * 32,
        DIGESTS,
        np.arange(5, dtype=np.uint64) * np.uint64(64),
        np.full(5, 60, np.uint64),
    ).encode(),
]
CHUNK_LIST = list_chunks(split_tensor(bytes(2 * CHUNK_MAX_NBYTES + 5), CHUNK_MAX_NBYTES), [bytes(32)] * 3).encode()
SPANS = np.array([[0, 100], [100, 7], [107, 893]], np.uint64)
TABLE = LocationTable(np.array([1, 5, 5, 1 << 63], np.uint64), np.arange(4, dtype=np.uint64)).encode()
BLOCK = (np.arange(4096, dtype=np.uint32) // 3).tobytes()


@st.composite
def mutations(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with some bytes set to others, perhaps cut or grown. Numbers at the edge of their type come often."""
    broken = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        if broken:
            at = draw(st.integers(0, len(broken) - 1))
            new = draw(
                st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8), b"\xff" * 4 + bytes(4)])
            )
            broken[at : at + len(new)] = new[: len(broken) - at]
    if draw(st.integers(0, 3)) == 0:
        del broken[draw(st.integers(0, len(broken))) :]
    if draw(st.integers(0, 7)) == 0:
        broken += draw(st.binary(max_size=40))
    return bytes(broken)


def _decode_or_refuse(decode: Callable[[], object]) -> object | None:
    """What `decode` gives, None where it refuses; more than 32 MiB taken on the way fails the test."""
    decoded, peak = _measure(decode)
    if peak >= 32 << 20 and threading.active_count() > 1:  # another thread may have taken it
        decoded, peak = _measure(decode)
    assert peak < 32 << 20, threading.enumerate()
    return decoded


def _measure(decode: Callable[[], object]) -> tuple[object | None, int]:
    """What `decode` gives, None where it refuses, and the most bytes that the process took meanwhile."""
    tracemalloc.start()
    try:
        decoded = decode()
    except REFUSALS:
        decoded = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return decoded, peak


@pytest.mark.parametrize("whole", MANIFESTS, ids=["uniform", "ragged"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_manifest_is_refused_or_means_what_its_bytes_say(whole, data):
    broken = data.draw(mutations(whole))
    manifest = _decode_or_refuse(lambda: decode_manifest(broken, where="here"))
    if isinstance(manifest, Manifest):
        again = bytearray(manifest.encode())
        again[13:16] = broken[13:16]  # reserved
        assert bytes(again) == broken
        assert 0 < manifest.layout.block_nbytes <= 4 * CHUNK_MAX_NBYTES


@settings(max_examples=300, deadline=None)
@given(mutations(CHUNK_LIST))
def test_a_mutated_chunk_list_is_refused_or_adds_up(broken):
    listed = _decode_or_refuse(lambda: decode_chunk_list(broken, where="here"))
    if listed is not None:
        assert listed.encode() == broken
        assert (
            (len(listed.digests) - 1) * listed.chunk_nbytes < listed.nbytes <= len(listed.digests) * listed.chunk_nbytes
        )


@settings(max_examples=300, deadline=None)
@given(mutations(encode_index(SPANS)), st.booleans())
def test_a_mutated_shard_index_is_refused_or_stays_inside_the_shard(broken, is_resealed):
    if is_resealed:
        body = broken[:-CRC_NBYTES]
        broken = body + int(google_crc32c.value(body)).to_bytes(CRC_NBYTES, "little")
    spans = _decode_or_refuse(lambda: decode_index(broken, body_nbytes=1000, where="here"))
    if isinstance(spans, np.ndarray):
        assert all(int(offset) + int(nbytes) <= 1000 for offset, nbytes in spans)


@settings(max_examples=300, deadline=None)
@given(mutations(TABLE))
def test_a_mutated_location_table_is_refused_or_can_be_searched(broken):
    table = _decode_or_refuse(lambda: decode_table(broken, where="here"))
    if isinstance(table, LocationTable):
        assert table.encode() == broken
        assert (table.find(np.array([0, 5, 1 << 63, 2**64 - 1], np.uint64)) <= table.rows).all()


@settings(max_examples=150, deadline=None)
@given(mutations(b"SRPRESNT" + (100).to_bytes(8, "little") + bytes(13)))
def test_a_mutated_presence_map_is_refused_or_describes_the_pack(broken):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PRESENCE_NAME).write_bytes(broken)
        presence = _decode_or_refuse(lambda: PresenceMap.open(Path(folder), 100))
        if isinstance(presence, PresenceMap):
            assert presence.list_absent(np.arange(100)).size <= 100


@pytest.mark.parametrize("codec", list(Codec))
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_mutated_block_is_refused_or_has_the_size_it_should(codec, data):
    whole = bytes(encode_block(codec, BLOCK, 4))
    if codec is Codec.RAW:  # its bytes are what they are
        assert decode_block(codec, whole, len(whole), where="here") == BLOCK
        return
    broken = data.draw(mutations(whole[:-CRC_NBYTES]))
    resealed = broken + int(google_crc32c.value(broken)).to_bytes(CRC_NBYTES, "little")
    claimed = data.draw(st.sampled_from([len(BLOCK), len(BLOCK) - 4, 1, 4 * CHUNK_MAX_NBYTES]))
    decoded = _decode_or_refuse(lambda: decode_block(codec, resealed, claimed, where="here"))
    assert decoded is None or len(memoryview(decoded)) == claimed
    if broken != whole[:-CRC_NBYTES]:
        unsealed = _decode_or_refuse(lambda: decode_block(codec, broken + whole[-CRC_NBYTES:], claimed, where="here"))
        assert unsealed is None
