"""How tensors become chunks, and the chunk list that names them."""

import numpy as np
import pytest
from blake3 import blake3

from stockroom.errors import FormatVersionError, MalformedRecordError
from stockroom.store.chunking import (
    CHUNK_MAX_NBYTES,
    decode_chunk_list,
    measure_chunk,
    split_tensor,
)
from stockroom.testing.chunk_lists import list_chunks

MIB = 1 << 20


@pytest.mark.parametrize(
    ("shape", "itemsize", "expected"),
    [
        ((10 * MIB,), 1, 4 * MIB),
        ((3_000_000,), 8, 4 * MIB),
        ((100, 1_000_000), 1, 4_000_000),  # four whole rows
        ((5, 3 * MIB), 1, 3 * MIB),  # two rows would not fit
        ((7, 4 * MIB), 1, 4 * MIB),
        ((2, 1 * MIB + 1), 4, 4 * MIB),  # a row is larger than a chunk: cut between elements
        ((2, 3, 1_000_003), 16, 4 * MIB),
    ],
)
def test_a_chunk_is_whole_rows_or_whole_elements_of_a_larger_row(shape, itemsize, expected):
    nbytes = measure_chunk(shape, itemsize)
    assert nbytes == expected <= CHUNK_MAX_NBYTES
    row_nbytes = itemsize * int(np.prod(shape[1:], dtype=np.int64))
    assert nbytes % (row_nbytes if row_nbytes <= CHUNK_MAX_NBYTES else itemsize) == 0


def test_chunks_are_views_that_join_to_the_tensor():
    raw = np.arange(3_000_000, dtype=np.float64)
    chunks = split_tensor(raw, measure_chunk(raw.shape, 8))
    assert [len(chunk) for chunk in chunks] == [4 * MIB] * 5 + [24_000_000 - 20 * MIB]
    assert b"".join(chunks) == raw.tobytes()
    assert np.shares_memory(np.frombuffer(chunks[1], np.uint8), raw)


def test_a_chunk_list_round_trips_and_carries_the_digest_of_the_whole_tensor():
    raw = np.random.default_rng(0).bytes(9 * MIB)
    chunks = split_tensor(raw, 4 * MIB)
    listed = list_chunks(chunks, [blake3(chunk).digest() for chunk in chunks])
    again = decode_chunk_list(listed.encode(), where="here")
    assert again.tensor_digest == blake3(raw).digest()
    assert (again.nbytes, again.chunk_nbytes) == (9 * MIB, 4 * MIB)
    assert again.digests.tobytes() == b"".join(blake3(chunk).digest() for chunk in chunks)
    assert again.encode() == listed.encode()


def test_a_chunk_list_that_does_not_add_up_is_refused_by_name():
    chunks = split_tensor(bytes(9 * MIB), 4 * MIB)
    encoded = list_chunks(chunks, [bytes(32)] * 3).encode()
    oversized = encoded[:16] + (8 * MIB).to_bytes(8, "little") + encoded[24:]
    for broken in (b"", encoded[:-1], encoded + bytes(32), b"X" + encoded[1:], oversized):
        with pytest.raises(MalformedRecordError, match="list 7f"):
            decode_chunk_list(broken, where="list 7f")


def test_a_chunk_list_of_a_later_version_asks_for_an_upgrade():
    encoded = list_chunks(split_tensor(bytes(9 * MIB), 4 * MIB), [bytes(32)] * 3).encode()
    with pytest.raises(FormatVersionError, match="upgrade"):
        decode_chunk_list(encoded[:4] + (2).to_bytes(4, "little") + encoded[8:], where="here")
