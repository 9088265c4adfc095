"""The stage record: what is uncommitted, and on top of what."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs.changes import Stage
from stockroom.refs.record import RecordFormat

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _StageRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    base: _Digest | None
    root: _Digest


_FORMAT: Final = RecordFormat(_StageRecord, magic=b"SRst", version=1, name="stage", max_nbytes=256)


def encode_stage(stage: Stage) -> bytes:
    """The stage record's canonical bytes: magic "SRst", version 1, then base and root."""
    return _FORMAT.encode(_StageRecord(stage.base, stage.root))


def decode_stage(data: bytes, *, where: str) -> Stage:
    """The stage in `data`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    record = _FORMAT.decode(data, where=where)
    base = None if record.base is None else CommitId(record.base)
    return Stage(base=base, root=ObjectDigest(record.root))
