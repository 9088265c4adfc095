"""Gc's marks on a remote: the items its refs cannot reach, since when, and which are being removed now.

    offset  size  type     field
    0       4     bytes    magic "SRrm"
    4       1     u8       version, 1
    5       ...   msgpack  array: salt, marks

A table of marks never changes; a ref state names the one in force. So publishing a state also decides on its marks, and
of two writers that race exactly one succeeds. A push that relies on a marked item drops the mark in the state it
publishes. Gc removes only items that were still marked when it published that it would.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec

from stockroom.errors import MalformedRecordError
from stockroom.refs.record import RecordFormat
from stockroom.remotes.format.ref_state import Digest

MAX_MARKS: Final = 1_000_000
MAX_MARKS_NBYTES: Final = 64 << 20
_SALT_NBYTES: Final = 16

_PATH: Final = re.compile(
    r"(?P<folder>packs|bundles|marks)/(?P<start>[0-9a-f]{2})/(?P<name>[0-9a-f]{64})(?P<file>/zarr\.json|/chunks|/c\b.*)?"
)

_Seconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 48))]


class ItemKind(IntEnum):
    """The kind of a marked item: a pack, a bundle, or an older table of marks."""

    PACK = 1
    BUNDLE = 2
    MARKS = 3


_KINDS: Final = {"packs": ItemKind.PACK, "bundles": ItemKind.BUNDLE, "marks": ItemKind.MARKS}


class RemoteMark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A mark.

    Attributes:
        kind, digest: the marked item.
        since_s: when it was first found unreachable, in seconds since 1970 by the remote's clock.
        until_s: 0; or, while the item is being removed, the time by which its remover has stopped.
    """

    kind: ItemKind
    digest: Digest
    since_s: _Seconds
    until_s: _Seconds = 0

    @property
    def item(self) -> Item:
        """The marked item."""
        return self.kind, self.digest


Item: TypeAlias = tuple[ItemKind, bytes]
MarkTable: TypeAlias = Mapping[Item, RemoteMark]


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The record in the file. The salt makes two tables of the same marks differ."""

    salt: Annotated[bytes, msgspec.Meta(min_length=_SALT_NBYTES, max_length=_SALT_NBYTES)]
    marks: tuple[RemoteMark, ...]


_FORMAT: Final = RecordFormat(_Record, magic=b"SRrm", version=1, name="table of marks", max_nbytes=MAX_MARKS_NBYTES)


def encode_marks(marks: Iterable[RemoteMark]) -> bytes:
    """Encode a new table, with bytes that no other table has."""
    ordered = sorted(marks, key=lambda mark: mark.item)
    return _FORMAT.encode(_Record(secrets.token_bytes(_SALT_NBYTES), tuple(ordered)))


def decode_marks(content: bytes, *, where: str) -> dict[Item, RemoteMark]:
    """Decode the table in `content`. Errors name `where`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    marks = _FORMAT.decode(content, where=where).marks
    items = [mark.item for mark in marks]
    if any(before >= after for before, after in pairwise(items)):
        raise MalformedRecordError(f"{where}: its marks are out of order", where=where)
    return {mark.item: mark for mark in marks}


def parse_item(path: str) -> Item | None:
    """Return the item that a file of a remote belongs to, or None if gc must not remove the file."""
    match = _PATH.fullmatch(path)
    if match is None or match["name"][:2] != match["start"] or (match["folder"] == "packs") != bool(match["file"]):
        return None
    return _KINDS[match["folder"]], bytes.fromhex(match["name"])
