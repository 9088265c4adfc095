"""Values of trees: inline bytes, a chunk's digest or a chunk list's, with a shape where shapes vary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@st.composite
def draw_values(draw):
    """A format and values of its width, sound ones and others."""
    shape = draw(st.lists(st.sampled_from([None, 0, 3]), min_size=1, max_size=3).map(tuple))
    entries = EntryFormat(draw(st.sampled_from([1, 2, 8])), shape)
    if entries.is_fixed:
        shape = (None, *shape)
        entries = EntryFormat(entries.itemsize, shape)
    length = st.sampled_from([0, 1, 2, 3, 40, 2**20, 2**40, 2**62, 2**64 - 1])
    values = []
    for _ in range(draw(st.integers(1, 4))):
        lengths = [draw(length) if wanted is None or draw(st.integers(0, 9)) == 0 else wanted for wanted in shape]
        nbytes = entries.itemsize * int(np.prod([min(n, 2**21) for n in lengths], dtype=object))
        kind = draw(st.sampled_from([choose_kind(nbytes)] * 3 + [0, 1, 2, 7]))
        payload = bytes(min(nbytes, 32)) if draw(st.booleans()) else DIGEST
        values.append(entries._header.pack(kind, *lengths) + payload.ljust(32, b"\0"))
    return entries, values


@given(draw_values())
def test_checking_many_finds_what_decoding_each_would_refuse(drawn):
    entries, values = drawn

    def is_refused(act):
        try:
            act()
        except MalformedRecordError:
            return True
        return False

    one_by_one = any(is_refused(lambda value=value: entries.decode(value)) for value in values)
    assert (
        is_refused(lambda: entries.check(np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)))
        == one_by_one
    )


def test_no_entries_measure_nothing():
    for shape in ((None,), (None, 3), (2, None, None), (3,), ()):
        entry_format = EntryFormat(4, shape)
        none = np.empty((0, entry_format.width), np.uint8)
        assert entry_format.measure(none).tolist() == []
        entry_format.check(none)
