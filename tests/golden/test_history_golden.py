"""Frozen records of history, stage and catalog, version 1: they must be read for ever, and written the same way.

`data/history_v1` holds one record a file. A new version adds a folder beside it. If a test here fails, the code is
wrong, not the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from tests.golden import format_records as records

from stockroom.content.column import ColumnRecord, decode_column
from stockroom.content.merge.conflict import Conflict
from stockroom.content.merge.unfinished import Merging, read_merging, record_conflicts
from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs import ObjectStore
from stockroom.refs.commit import CommitRecord, decode_commit
from stockroom.refs.objects import decode_object
from stockroom.refs.operations import Operation, decode_operation, encode_operation
from stockroom.refs.stage import Stage, decode_stage, encode_stage
from stockroom.repository.head import Head, parse_head
from stockroom.store.index.catalog import TableRecord, decode_table_record

DATA = Path(__file__).parent / "data" / "history_v1"
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))

COMMIT = CommitRecord(
    tree=A,
    parents=(B, C),
    author="Ada Lövelace",
    email="ada@example.org",
    time_ns=1_782_000_000_123_456_789,
    offset_minutes=-90,
    message="Label the second batch\n\nBy hand.",
    metadata={"accuracy": 0.9, "epoch": 300, "final": True, "note": None, "run": "b7"},
)
OPERATION = Operation(
    number=300, time_ns=-5, kind="undo", ref="branch/main", old=A, new=None, note="commit branch/main", undoes=299
)
COLUMN = ColumnRecord("bytes", (None,), "str", "raw", A, {"b": [1, 2.5, None], "unit": "px"}, "image:RGB")
FIXED = ColumnRecord("float8_e4m3", (3, 70000), "int", "auto", B, {})
MERGING = Merging(
    kind="cherry-pick",
    theirs=C,
    parent=None,
    message="Take it",
    open_conflicts=record_conflicts(
        [
            Conflict("data/label", -3, "both changed", "00", "01", None),
            Conflict("model/net", "fc.weight", "both added", None, "aa", "bb"),
            Conflict("data/x", None, "schema", None, None, None),
        ]
    ),
)
TABLE = TableRecord(70000, 1025, "000000070000.table", b"")


class _Kept(ObjectStore):
    """Objects that are never flushed, so that no environment is needed."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]


def encode_merging() -> bytes:
    store = _Kept()
    return store.get_object(MERGING.put(store))


def decode_merging(data: bytes) -> Merging:
    store = _Kept()
    return read_merging(store, store.put_object(data))


ENCODED: dict[str, Callable[[], bytes]] = {
    "commit": COMMIT.encode,
    "operation": lambda: encode_operation(OPERATION)[1],
    "column": COLUMN.encode,
    "column_of_arrays": FIXED.encode,
    "stage": lambda: encode_stage(Stage(base=CommitId(A), root=ObjectDigest(B))),
    "first_stage": lambda: encode_stage(Stage(base=None, root=ObjectDigest(B))),
    "merging_stage": lambda: encode_stage(Stage(base=CommitId(A), root=ObjectDigest(B), merging=ObjectDigest(C))),
    "merging": encode_merging,
    "head.stock": lambda: Head("main", CommitId(C)).format().encode(),
    "detached.stock": lambda: Head(None, CommitId(C)).format().encode(),
    "fresh.stock": lambda: Head("a/b", None).format().encode(),
    "table_record": lambda: msgspec.msgpack.encode(TABLE),
}
KEY = encode_operation(OPERATION)[0]
DECODED: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "commit": (lambda data: decode_commit(data), COMMIT),
    "operation": (lambda data: decode_operation(KEY, data), OPERATION),
    "column": (lambda data: decode_column(data, where="here"), COLUMN),
    "column_of_arrays": (lambda data: decode_column(data, where="here"), FIXED),
    "stage": (lambda data: decode_stage(data, where="here"), Stage(base=CommitId(A), root=ObjectDigest(B))),
    "first_stage": (lambda data: decode_stage(data, where="here"), Stage(base=None, root=ObjectDigest(B))),
    "merging_stage": (
        lambda data: decode_stage(data, where="here"),
        Stage(base=CommitId(A), root=ObjectDigest(B), merging=ObjectDigest(C)),
    ),
    "merging": (decode_merging, MERGING),
    "head.stock": (lambda data: parse_head(data.decode(), where="here"), Head("main", CommitId(C))),
    "detached.stock": (lambda data: parse_head(data.decode(), where="here"), Head(None, CommitId(C))),
    "fresh.stock": (lambda data: parse_head(data.decode(), where="here"), Head("a/b", None)),
    "table_record": (lambda data: decode_table_record(data), TABLE),
}


@pytest.mark.parametrize("name", ENCODED)
def test_a_frozen_record_of_history_is_still_read_and_written(name: str) -> None:
    frozen = (DATA / name).read_bytes()
    decode, meant = DECODED[name]
    assert decode(frozen) == meant
    assert ENCODED[name]() == frozen


def test_frozen_records_of_history_are_what_the_document_says() -> None:
    def read(name: str) -> bytes:
        return (DATA / name).read_bytes()

    commit = records.read_commit(read("commit"))
    assert (commit["parents"], commit["metadata"]["accuracy"]) == ([B, C], 0.9)
    assert records.read_operation(KEY, read("operation"))["undoes"] == 299
    assert records.read_column(read("column"))["decoder"] == "image:RGB"
    assert records.read_column(read("column_of_arrays"))["shape"] == [3, 70000]
    assert records.read_stage(read("first_stage")) == {"base": None, "root": B, "merging": None}
    assert records.read_stage(read("merging_stage"))["merging"] == C
    assert records.read_merging(read("merging"))["open_conflicts"][1][1] == "fc.weight"
    assert records.read_head(read("head.stock")) == ("main", C.hex())
    assert records.read_head(read("detached.stock")) == (None, C.hex())
    assert records.read_head(read("fresh.stock")) == ("a/b", None)


def test_objects_at_rest_raw_and_encoded_are_still_read() -> None:
    frozen = (DATA / "commit").read_bytes()
    for name in ("object_raw", "object_zstd"):
        at_rest = (DATA / name).read_bytes()
        digest = ObjectDigest(blake3(frozen).digest())
        assert decode_object(at_rest, digest) == frozen == records.read_at_rest(at_rest, digest)
