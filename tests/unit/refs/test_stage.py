"""Stage records: what is on disk, with a merge under way and without; and what is refused."""

from __future__ import annotations

import pytest

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import FormatVersionError, MalformedRecordError, NotFoundError
from stockroom.refs import RefChange, Stage
from stockroom.refs.stage import decode_stage, encode_stage

BASE, ROOT, MERGING = CommitId(bytes([1] * 32)), ObjectDigest(bytes([2] * 32)), ObjectDigest(bytes([3] * 32))
BIN_32 = b"\xc4\x20"

RECORDS = {
    "plain": (Stage(base=BASE, root=ROOT), b"SRst\x01\x92" + BIN_32 + BASE + BIN_32 + ROOT),
    "first": (Stage(base=None, root=ROOT), b"SRst\x01\x92\xc0" + BIN_32 + ROOT),
    "merging": (
        Stage(base=BASE, root=ROOT, merging=MERGING),
        b"SRsm\x01\x93" + BIN_32 + BASE + BIN_32 + ROOT + BIN_32 + MERGING,
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_bytes_on_disk(name):
    stage, data = RECORDS[name]
    assert encode_stage(stage) == data
    assert decode_stage(data, where="stage work") == stage


@pytest.mark.parametrize("name", RECORDS)
def test_anything_else_is_refused(name):
    data = RECORDS[name][1]
    for broken in (
        data[:-1],
        data + b"\0",
        data[:5] + b"\x90",
        b"SRxx" + data[4:],
        data.replace(BIN_32, b"\xc4\x1f", 1),
    ):
        with pytest.raises(MalformedRecordError, match="stage work"):
            decode_stage(broken, where="stage work")
    with pytest.raises(FormatVersionError):
        decode_stage(data[:4] + b"\x02" + data[5:], where="stage work")


def test_a_stage_needs_the_record_of_its_merge(history):
    missing = Stage(base=None, root=history.tree, merging=MERGING)
    with pytest.raises(NotFoundError, match="merge record"):
        history.refs.apply(RefChange(kind="stage", stages={"work": missing}))
    record = history.objects.put_object(b"a merge")
    stage = Stage(base=None, root=history.tree, merging=record)
    history.refs.apply(RefChange(kind="stage", stages={"work": stage}), objects=history.objects)
    assert history.refs.get_stage() == stage
