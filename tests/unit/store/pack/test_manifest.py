"""The `chunks` file of a pack."""

import numpy as np
import pytest

from stockroom.digest import compute_digest
from stockroom.errors import FormatVersionError, MalformedRecordError
from stockroom.store.codecs import Codec
from stockroom.store.pack.layout import PackLayout
from stockroom.store.pack.manifest import Manifest, decode_manifest

DIGESTS = np.arange(96, dtype=np.uint8).reshape(3, 32)
UNIFORM = Manifest(PackLayout("float32", (2, 3), Codec.ZSTD, 5), 3, 1234, b"z" * 32, DIGESTS, None, None)
RAGGED = Manifest(
    PackLayout("bfloat16", None, Codec.RAW, 96),
    96,
    500,
    b"z" * 32,
    DIGESTS,
    np.array([0, 64, 128], np.uint64),
    np.array([64, 2, 50], np.uint64),
)


@pytest.mark.parametrize("manifest", [UNIFORM, RAGGED], ids=["uniform", "ragged"])
def test_a_manifest_round_trips_and_is_named_by_the_digest_of_its_bytes(manifest):
    encoded = manifest.encode()
    again = decode_manifest(encoded, where="here")
    assert again.encode() == encoded
    assert again.layout == manifest.layout
    assert (again.units, again.shard_nbytes, again.zarr_digest) == (
        manifest.units,
        manifest.shard_nbytes,
        manifest.zarr_digest,
    )
    assert (again.digests == DIGESTS).all()
    assert again.compute_digest() == compute_digest(encoded)


def test_a_manifest_is_viewed_in_place_and_read_only():
    encoded = RAGGED.encode()
    again = decode_manifest(encoded, where="here")
    assert np.shares_memory(again.digests, np.frombuffer(encoded, np.uint8))
    assert not again.digests.flags.writeable


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (0, b"X", "magic"),
        (10, b"\2", "kind"),
        (11, b"\x09", "codec"),
        (12, b"\x40", "axes"),
        (16, b"\xff" * 8, "rows"),
        (16, b"\4", "bytes"),
        (24, bytes(8), "sizes"),
        (24, b"\0\0\0\0\1", "sizes"),  # a block of 4 GiB of rows
        (32, b"\xff" * 8, "sizes"),
        (40, b"\xff" * 8, "sizes"),
        (80, b"complex\xff", "dtype"),
        (80, b"object\0\0", "dtype"),
    ],
)
def test_a_manifest_with_an_impossible_field_is_refused_before_anything_is_allocated(offset, value, what):
    encoded = bytearray(UNIFORM.encode())
    encoded[offset : offset + len(value)] = value
    with pytest.raises(MalformedRecordError, match=what):
        decode_manifest(bytes(encoded), where="here")


@pytest.mark.parametrize("cut", [0, 1, 103, -1])
def test_a_cut_manifest_is_refused_by_name(cut):
    with pytest.raises(MalformedRecordError, match="pack 7f"):
        decode_manifest(UNIFORM.encode()[:cut], where="pack 7f")


def test_a_manifest_of_a_later_version_asks_for_an_upgrade():
    encoded = bytearray(UNIFORM.encode())
    encoded[8] = 2
    with pytest.raises(FormatVersionError, match="upgrade"):
        decode_manifest(bytes(encoded), where="here")
