"""The record of a merge under way: what is on disk, and what is refused."""

from __future__ import annotations

import pytest

from stockroom.content.merge.conflict import Conflict
from stockroom.content.merge.unfinished import Merging, read_merging, record_conflicts
from stockroom.digest import ObjectDigest, compute_digest
from stockroom.errors import MalformedRecordError
from stockroom.testing.memory_nodes import MemoryNodes

CONFLICTS = [Conflict("data/x", 7, "both changed", "aa", "bb", None), Conflict("model/net", None, "structure")]
GOLDEN = bytes.fromhex(
    "5352 6d67 01 95 a5 6d65726765 c420" + "01" * 32 + "c420" + "02" * 32 + "a5 4c61746572 92"
    "96 a6 646174612f78 07 ac 626f7468206368616e676564 a2 6161 a2 6262 c0"
    "96 a9 6d6f64656c2f6e6574 c0 a9 737472756374757265 c0 c0 c0"
)


def test_bytes_on_disk():
    objects = MemoryNodes()
    merging = Merging(
        kind="merge",
        theirs=bytes([1] * 32),
        parent=bytes([2] * 32),
        message="Later",
        open_conflicts=record_conflicts(CONFLICTS),
    )
    digest = merging.put(objects)
    assert objects.objects[digest] == GOLDEN
    found = read_merging(objects, digest)
    assert (found, found.conflicts, found.parents) == (merging, CONFLICTS, (bytes([2] * 32),))
    assert found.leave(CONFLICTS[1:]).conflicts == CONFLICTS[1:]


def test_anything_else_is_refused():
    objects = MemoryNodes()
    for broken in (GOLDEN[:-1], GOLDEN + b"\xc0", b"SRxx" + GOLDEN[4:], GOLDEN.replace(b"\xc4\x20", b"\xc4\x1f", 1)):
        digest = ObjectDigest(compute_digest(broken))
        objects.objects[digest] = broken
        with pytest.raises(MalformedRecordError, match="merge"):
            read_merging(objects, digest)
