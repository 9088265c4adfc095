"""Mutated records of the refs environment raise what they should and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.mutations import check, iter_cuts_and_pastes, iter_flipped_bits

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import MalformedRecordError
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


@pytest.mark.parametrize("name", DECODERS)
def test_every_flipped_bit(name):
    for mutated in iter_flipped_bits(DECODERS[name][0]):
        check(DECODERS[name], mutated)


@pytest.mark.parametrize("name", DECODERS)
def test_every_truncation_is_malformed(name):
    data, decode, _ = DECODERS[name]
    for nbytes in range(len(data)):
        with pytest.raises(MalformedRecordError):
            decode(data[:nbytes])


@pytest.mark.parametrize("name", DECODERS)
def test_random_cuts_and_pastes(name):
    for mutated in iter_cuts_and_pastes(DECODERS[name][0], 3000):
        check(DECODERS[name], mutated)


@given(body=st.binary(max_size=200))
def test_any_bytes_after_the_head(body):
    for coder in DECODERS.values():
        check(coder, coder[0][:5] + body)


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
def test_deep_nesting_is_malformed(depth):
    with pytest.raises(MalformedRecordError):
        decode_commit(COMMIT.encode()[:5] + b"\x91" * depth)


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_lengths_that_lie_are_malformed(claim):
    with pytest.raises(MalformedRecordError):
        decode_commit(COMMIT.encode()[:5] + claim)
