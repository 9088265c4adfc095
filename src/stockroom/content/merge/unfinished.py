"""An unfinished merge: the content merged into the stage, and the open conflicts.

As a metadata object: magic `SRmg`, version 1, then kind, theirs, parent, message and open conflicts as msgpack. The
stage refers to it, so that neither exists without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from stockroom.content.merge.conflict import Conflict
from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs import ObjectStore
from stockroom.refs.record import RecordFormat
from stockroom.trees import NodeStore

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

MERGE: Final = "merge"
REVERT: Final = "revert"
CHERRY_PICK: Final = "cherry-pick"


class _ConflictRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    path: str
    key: int | str | None
    kind: str
    base: str | None
    ours: str | None
    theirs: str | None


class Merging(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The merge under way.

    Attributes:
        kind: `merge`, `revert` or `cherry-pick`.
        theirs: root of the content that is merged in.
        parent: the second parent of the merge commit; None if HEAD is its only parent.
        message: the message of the commit.
        open_conflicts: the undecided conflicts.
    """

    kind: str
    theirs: _Digest
    parent: _Digest | None
    message: str
    open_conflicts: tuple[_ConflictRecord, ...]

    @property
    def conflicts(self) -> list[Conflict]:
        """The open conflicts."""
        return [Conflict(c.path, c.key, c.kind, c.base, c.ours, c.theirs) for c in self.open_conflicts]

    @property
    def parents(self) -> tuple[CommitId, ...]:
        """The parents of the commit besides HEAD."""
        return () if self.parent is None else (CommitId(self.parent),)

    def leave(self, conflicts: Sequence[Conflict]) -> Merging:
        """Return the same merge with only these conflicts open."""
        return msgspec.structs.replace(self, open_conflicts=record_conflicts(conflicts))

    def put(self, objects: ObjectStore) -> ObjectDigest:
        """Put the merge as an object and return its digest."""
        return objects.put_object(_FORMAT.encode(self))


def record_conflicts(conflicts: Sequence[Conflict]) -> tuple[_ConflictRecord, ...]:
    """Return conflicts as they are recorded."""
    return tuple(_ConflictRecord(c.path, c.key, c.kind, c.base, c.ours, c.theirs) for c in conflicts)


def read_merging(objects: NodeStore, digest: ObjectDigest) -> Merging:
    """Return the merge recorded under `digest`."""
    return _FORMAT.decode(objects.get_object(digest), where=f"merge {digest.hex()[:16]}")


_FORMAT: Final = RecordFormat(Merging, magic=b"SRmg", version=1, name="merge", max_nbytes=64 << 20)
