"""Column records: what they may say, and that nothing else is read from bytes."""

from __future__ import annotations

import contextlib
import random

import msgspec
import pytest

from stockroom import FormatVersionError, InvalidInputError, MalformedRecordError
from stockroom.content.column import ColumnRecord, check_attrs, check_schema, decode_column

RECORD = ColumnRecord(
    dtype="float32",
    shape=(None, 3),
    key_type="int",
    codec="auto",
    root=bytes(range(32)),
    attrs={"unit": "mm", "n": [1]},
)


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "str", "shape": (None,)}, {"shape": ()}, {"key_type": "str", "attrs": {}}]
)
def test_a_record_is_decoded_back_from_its_bytes(changes):
    record = msgspec.structs.replace(RECORD, **changes)
    assert decode_column(record.encode(), where="here") == record


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "object"},
        {"dtype": "float31"},
        {"dtype": "U5"},
        {"dtype": "str", "shape": ()},
        {"dtype": "bytes", "shape": (3,)},
        {"shape": (-1,)},
        {"shape": (1 << 40,)},
        {"shape": (1,) * 33},
        {"key_type": "float"},
        {"codec": "gzip"},
    ],
)
def test_a_schema_we_do_not_keep_is_refused_given_or_read(changes):
    record = msgspec.structs.replace(RECORD, **changes)
    with pytest.raises(InvalidInputError):
        check_schema(record)
    with pytest.raises(MalformedRecordError, match="here"):
        decode_column(record.encode(), where="here")


def test_a_root_that_is_no_digest_is_refused():
    with pytest.raises(MalformedRecordError, match="root"):
        decode_column(msgspec.structs.replace(RECORD, root=b"short").encode(), where="here")


def test_changed_bytes_raise_the_documented_errors_only():
    rng = random.Random(0)
    whole = RECORD.encode()
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randint(0, len(data))]) if rng.random() < 0.2 else bytes(data)
        with contextlib.suppress(MalformedRecordError, FormatVersionError):
            decode_column(cut, where="here")


@pytest.mark.parametrize("attrs", [{"a": {"b": [1, 2.5, None, True, "ä"]}}, {}, {"": 0}])
def test_attrs_are_plain_json(attrs):
    assert check_attrs(attrs, column="x") == attrs


@pytest.mark.parametrize(
    "attrs", [[1], "text", None, {"a": object()}, {"a": "x" * (1 << 17)}, {"a": float("nan")}, {"a": [1 << 80]}]
)
def test_other_attrs_are_refused_by_column(attrs):
    with pytest.raises(InvalidInputError, match="column 'x'"):
        check_attrs(attrs, column="x")
