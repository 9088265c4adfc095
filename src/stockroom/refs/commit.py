"""The commit record: its fields, and the bytes whose digest is the commit's id.

    offset  size  type     field
    0       4     bytes    magic "SRcm"
    4       1     u8       version, 1
    5       ...   msgpack  array: tree, parents, author, email, time_ns, offset_minutes, message, metadata

Bytes that decode, but would not encode to the same bytes again, are rejected: a commit has only one encoding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, TypeAlias

import msgspec

from stockroom.digest import CommitId, ObjectDigest, compute_digest
from stockroom.refs.record import RecordFormat

MAX_COMMIT_NBYTES: Final = 1 << 20
MAX_PARENTS: Final = 256

Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
MetadataValue: TypeAlias = str | int | float | bool | None


class CommitRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """A commit.

    Attributes:
        tree: digest of the object that holds the commit's content.
        parents: ids of the parent commits; the first is the tip of the branch it was made on.
        time_ns: nanoseconds since 1970, UTC.
        offset_minutes: the author's time zone, east of UTC.
        metadata: small values of the user's own, kept in order of key.
    """

    tree: Digest
    parents: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_PARENTS)]
    author: str
    email: str
    time_ns: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    offset_minutes: Annotated[int, msgspec.Meta(gt=-1440, lt=1440)]
    message: str
    metadata: dict[str, MetadataValue]

    def encode(self) -> bytes:
        """Return the record's canonical bytes, computed once.

        Raises:
            InvalidInputError: a field does not fit the format, or all fields together exceed 1 MiB.
        """
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return _FORMAT.encode(self)

    @cached_property
    def commit_id(self) -> CommitId:
        """The digest of the canonical bytes."""
        return CommitId(compute_digest(self.encode()))

    @property
    def tree_digest(self) -> ObjectDigest:
        """`tree`, as the type that object stores use."""
        return ObjectDigest(self.tree)

    @property
    def parent_ids(self) -> tuple[CommitId, ...]:
        """`parents`, as the type that ref stores use."""
        return tuple(map(CommitId, self.parents))


_FORMAT: Final = RecordFormat(CommitRecord, magic=b"SRcm", version=1, name="commit", max_nbytes=MAX_COMMIT_NBYTES)


def decode_commit(data: bytes, *, where: str = "commit") -> CommitRecord:
    """Decode the record in `data`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    return _FORMAT.decode(data, where=where)
