"""The index at the end of a shard, as Zarr's sharding codec defines it."""

import numpy as np
import pytest

from stockroom.errors import MalformedRecordError
from stockroom.store.pack.shard import decode_index, encode_index, index_nbytes

SPANS = np.array([[0, 100], [100, 7], [107, 893]], np.uint64)


def test_an_index_round_trips_and_has_the_size_it_says():
    encoded = encode_index(SPANS)
    assert len(encoded) == index_nbytes(3) == 3 * 16 + 4
    assert (decode_index(encoded, body_nbytes=1000, where="here") == SPANS).all()
    assert encode_index(np.empty((0, 2), np.uint64)) == bytes(4)


def test_a_span_outside_the_shard_is_refused_by_name():
    with pytest.raises(MalformedRecordError, match=r"pack 7f.*outside"):
        decode_index(encode_index(SPANS), body_nbytes=999, where="pack 7f")
    wrapping = np.array([[2**64 - 1, 2]], np.uint64)
    with pytest.raises(MalformedRecordError, match="outside"):
        decode_index(encode_index(wrapping), body_nbytes=1 << 40, where="here")


def test_every_flipped_bit_of_an_index_is_noticed():
    encoded = encode_index(SPANS)
    for bit in range(8 * len(encoded)):
        broken = bytearray(encoded)
        broken[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(MalformedRecordError, match="checksum"):
            decode_index(bytes(broken), body_nbytes=1000, where="here")
