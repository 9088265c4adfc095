"""Values of trees: inline bytes, a chunk's digest or a chunk list's, with a shape where shapes vary."""

import numpy as np
import pytest

from stockroom.errors import MalformedRecordError
from stockroom.store.chunking import CHUNK_MAX_NBYTES
from stockroom.store.entry import Entry, EntryFormat, EntryKind, choose_kind

DIGEST = bytes(range(32))


@pytest.mark.parametrize(
    ("nbytes", "kind"),
    [
        (0, EntryKind.INLINE),
        (32, EntryKind.INLINE),
        (33, EntryKind.CHUNK),
        (CHUNK_MAX_NBYTES, EntryKind.CHUNK),
        (CHUNK_MAX_NBYTES + 1, EntryKind.CHUNK_LIST),
    ],
)
def test_the_size_alone_decides_where_a_tensor_is_kept(nbytes, kind):
    assert choose_kind(nbytes) is kind


@pytest.mark.parametrize(
    ("itemsize", "shape", "width"), [(1, (0, 5), 0), (8, (), 8), (4, (8,), 32), (4, (3, 3), 32), (4, (1024, 1025), 32)]
)
def test_a_fixed_shape_takes_its_bytes_or_one_digest(itemsize, shape, width):
    entries = EntryFormat(itemsize, shape)
    payload = DIGEST[:width]
    assert entries.width == width
    value = entries.encode(entries.kind, shape, payload)
    assert entries.decode(value) == Entry(entries.kind, shape, itemsize * int(np.prod(shape, dtype=int)), payload)


def test_a_varying_shape_is_written_beside_its_payload():
    entries = EntryFormat(2, (None, 3))
    assert entries.width == 1 + 2 * 8 + 32
    small = entries.encode(EntryKind.INLINE, (4, 3), b"x" * 24)
    large = entries.encode(EntryKind.CHUNK, (400, 3), DIGEST)
    assert entries.decode(small) == Entry(EntryKind.INLINE, (4, 3), 24, b"x" * 24)
    assert entries.decode(large) == Entry(EntryKind.CHUNK, (400, 3), 2400, DIGEST)
    values = np.frombuffer(small + large, np.uint8).reshape(2, -1)
    assert entries.decode_kinds(values).tolist() == [0, 1]
    assert entries.measure(values).tolist() == [24, 2400]
    assert entries.slice_digests(values)[1].tobytes() == DIGEST


@pytest.mark.parametrize(
    ("kind", "shape"), [(0, (400, 3)), (1, (4, 3)), (2, (400, 3)), (9, (4, 3)), (1, (400, 4)), (2, (2**60, 3))]
)
def test_a_value_that_does_not_fit_its_column_is_refused(kind, shape):
    entries = EntryFormat(2, (None, 3))
    with pytest.raises(MalformedRecordError, match="does not fit its column"):
        entries.decode(entries.encode(kind, shape, DIGEST))
