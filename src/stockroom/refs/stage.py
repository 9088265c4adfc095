"""The stage record: the root of uncommitted changes, and the commit under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from stockroom.digest import CommitId, ObjectDigest, compute_digest
from stockroom.refs.record import RecordFormat

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Uncommitted changes: the tree object `root` on top of commit `base`; `merging` describes an unfinished merge."""

    base: CommitId | None
    root: ObjectDigest
    merging: ObjectDigest | None = None


class _StageRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    base: _Digest | None
    root: _Digest


class _MergingRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    base: _Digest | None
    root: _Digest
    merging: _Digest


_FORMAT: Final = RecordFormat(_StageRecord, magic=b"SRst", version=1, name="stage", max_nbytes=256)
_MERGING: Final = RecordFormat(_MergingRecord, magic=b"SRsm", version=1, name="stage", max_nbytes=256)


def encode_stage(stage: Stage) -> bytes:
    """Return the canonical bytes: magic "SRst" or, while merging, "SRsm"; version 1, base, root and any `merging`."""
    if stage.merging is None:
        return _FORMAT.encode(_StageRecord(stage.base, stage.root))
    return _MERGING.encode(_MergingRecord(stage.base, stage.root, stage.merging))


def digest_stage(stage: Stage) -> bytes:
    """Return the digest of a stage's canonical bytes."""
    return compute_digest(encode_stage(stage))


def decode_stage(data: bytes, *, where: str) -> Stage:
    """Decode the stage in `data`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    if data[:4] == b"SRsm":
        merging = _MERGING.decode(data, where=where)
        return Stage(
            base=_as_commit(merging.base), root=ObjectDigest(merging.root), merging=ObjectDigest(merging.merging)
        )
    record = _FORMAT.decode(data, where=where)
    return Stage(base=_as_commit(record.base), root=ObjectDigest(record.root))


def _as_commit(digest: bytes | None) -> CommitId | None:
    return None if digest is None else CommitId(digest)
