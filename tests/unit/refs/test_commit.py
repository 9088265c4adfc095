"""Commit records: one form, every field, no more than fits."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.digest import compute_digest
from stockroom.errors import FormatVersionError, InvalidInputError, MalformedRecordError
from stockroom.refs import CommitRecord, decode_commit
from stockroom.refs.commit import MAX_COMMIT_NBYTES

digests = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
records = st.builds(
    CommitRecord,
    tree=digests,
    parents=st.lists(digests, max_size=3).map(tuple),
    author=texts,
    email=texts,
    time_ns=st.integers(-(2**63), 2**63 - 1),
    offset_minutes=st.integers(-1439, 1439),
    message=texts,
    metadata=st.dictionaries(texts, scalars, max_size=5),
)


def same(a, b):
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b and str(a) == str(b)


@given(record=records)
def test_every_field_comes_back_with_its_type(record):
    back = decode_commit(record.encode())
    assert back.metadata.keys() == record.metadata.keys()
    assert all(same(back.metadata[key], record.metadata[key]) for key in record.metadata)
    without = msgspec.structs.replace(record, metadata={})
    assert msgspec.structs.replace(back, metadata={}) == without
    assert back.commit_id == record.commit_id == compute_digest(record.encode())


@pytest.fixture
def record(history):
    return history.record("first", metadata={"b": 1, "a": 2.5})


def test_the_order_of_metadata_does_not_change_the_id(record):
    other = msgspec.structs.replace(record, metadata={"a": 2.5, "b": 1})
    assert other.commit_id == record.commit_id


def test_the_bytes_of_a_commit_are_frozen():
    record = CommitRecord(
        tree=bytes(32),
        parents=(b"\1" * 32,),
        author="Ann",
        email="a@b",
        time_ns=1,
        offset_minutes=-60,
        message="m",
        metadata={"lr": 0.5},
    )
    assert record.encode().hex() == (
        "5352636d01" + "98" + "c420" + "00" * 32 + "91" + "c420" + "01" * 32 + "a3416e6e" + "a3614062"
        "01" + "d0c4" + "a16d" + "81" + "a26c72" + "cb3fe0000000000000"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tree", b"short"),
        ("parents", (b"short",)),
        ("parents", (bytes(32),) * 257),
        ("offset_minutes", 1440),
        ("time_ns", 1 << 63),
        ("time_ns", 1 << 70),
        ("author", None),
        ("message", "\ud800"),
        ("message", "x" * MAX_COMMIT_NBYTES),
        ("metadata", {"a": [1]}),
        ("metadata", {"a": b"bytes"}),
        ("metadata", {"a": 1 << 64}),
        ("metadata", {1: "a"}),
        ("metadata", {"a": object()}),
    ],
)
def test_a_field_that_does_not_fit_is_refused_on_writing(record, field, value):
    with pytest.raises(InvalidInputError, match="commit"):
        msgspec.structs.replace(record, **{field: value}).encode()


def test_a_newer_version_says_upgrade(record):
    data = record.encode()
    with pytest.raises(FormatVersionError, match="upgrade"):
        decode_commit(data[:4] + b"\x02" + data[5:])


def test_a_second_form_of_the_same_record_is_refused(record):
    data = record.encode()
    assert b"\x82\xa1a\xcb" in data  # a map of two, "a" first
    swapped = msgspec.msgpack.encode({"b": 1, "a": 2.5})
    canonical = msgspec.msgpack.encode({"a": 2.5, "b": 1})
    with pytest.raises(MalformedRecordError, match="canonical form"):
        decode_commit(data.replace(canonical, swapped))


@pytest.mark.parametrize("junk", [b"", b"SRcm", b"SRcm\x00\x98", b"git!\x01", b"SRcm\x01", b"SRcm\x01\xc1"])
def test_what_is_no_record_is_malformed(junk):
    with pytest.raises(MalformedRecordError):
        decode_commit(junk)


def test_trailing_bytes_are_malformed(record):
    with pytest.raises(MalformedRecordError):
        decode_commit(record.encode() + b"\x00")
