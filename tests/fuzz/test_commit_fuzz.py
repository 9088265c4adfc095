"""Mutated records of the refs environment raise what they should and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import FormatVersionError, MalformedRecordError
from stockroom.refs import CommitRecord, Operation, Stage, decode_commit
from stockroom.refs.operations import decode_operation, encode_operation
from stockroom.refs.stage import decode_stage, encode_stage

COMMIT = CommitRecord(
    tree=bytes(range(32)),
    parents=(bytes(32), b"\xff" * 32),
    author="Ann Ünïcode",
    email="ann@example.org",
    time_ns=1_700_000_000_000_000_000,
    offset_minutes=120,
    message="a message\n\nof two paragraphs",
    metadata={"lr": 0.1, "steps": 1000, "resumed": True, "note": None, "name": "run"},
)
OPERATION = Operation(
    number=7, time_ns=1, kind="commit", ref="branch/main", old=None, new=bytes(32), note="n", undoes=3
)
STAGE = Stage(base=CommitId(bytes(32)), root=ObjectDigest(b"\1" * 32))
KEY, OPERATION_BYTES = encode_operation(OPERATION)

DECODERS = {
    "commit": (COMMIT.encode(), decode_commit, lambda record: record.encode()),
    "operation": (
        OPERATION_BYTES,
        lambda data: decode_operation(KEY, data),
        lambda operation: encode_operation(operation)[1],
    ),
    "stage": (encode_stage(STAGE), lambda data: decode_stage(data, where="stage"), encode_stage),
}


def check(name, data):
    """Decoding `data` gives a record of exactly those bytes, or one of the two errors."""
    _, decode, encode = DECODERS[name]
    try:
        record = decode(data)
    except (MalformedRecordError, FormatVersionError):
        return
    assert encode(record) == data


@pytest.mark.parametrize("name", DECODERS)
def test_every_flipped_bit(name):
    data = DECODERS[name][0]
    for position in range(len(data)):
        for bit in range(8):
            mutated = bytearray(data)
            mutated[position] ^= 1 << bit
            check(name, bytes(mutated))


@pytest.mark.parametrize("name", DECODERS)
def test_every_truncation_is_malformed(name):
    data, decode, _ = DECODERS[name]
    for nbytes in range(len(data)):
        with pytest.raises(MalformedRecordError):
            decode(data[:nbytes])


@pytest.mark.parametrize("name", DECODERS)
def test_random_cuts_and_pastes(name):
    data = DECODERS[name][0]
    rng = random.Random(20)
    for _ in range(3000):
        start, end, at = (rng.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[:at], data[min(start, end) : max(start, end)], rng.randbytes(rng.randrange(4)), data[at:]]
        check(name, b"".join(pieces[: rng.randint(1, 4)]))


@given(body=st.binary(max_size=200))
def test_any_bytes_after_the_head(body):
    for name, (data, _, _) in DECODERS.items():
        check(name, data[:5] + body)


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
def test_deep_nesting_is_malformed(depth):
    with pytest.raises(MalformedRecordError):
        decode_commit(COMMIT.encode()[:5] + b"\x91" * depth)


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_lengths_that_lie_are_malformed(claim):
    with pytest.raises(MalformedRecordError):
        decode_commit(COMMIT.encode()[:5] + claim)
