"""What gc has found on a remote that its refs do not lead to: since when, and what is being removed at the moment.

    offset  size  type     field
    0       4     bytes    magic "SRrm"
    4       1     u8       version, 1
    5       ...   msgpack  array: salt, marks

A table of marks never changes; a ref state names the one in force. So whoever publishes a state decides on marks too,
and of two that race exactly one does: a push that relies on something marked takes the mark away in the state it makes,
and gc removes nothing but what was marked still when it published that it would.
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
    """What is marked: a pack, a bundle, or an older table of marks."""

    PACK = 1
    BUNDLE = 2
    MARKS = 3


_KINDS: Final = {"packs": ItemKind.PACK, "bundles": ItemKind.BUNDLE, "marks": ItemKind.MARKS}


class RemoteMark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A mark.

    Attributes:
        kind, digest: what is marked.
        since_s: when that was first found, in seconds since 1970 by the remote's clock.
        until_s: 0; or, for what is being removed, the time by which whoever does so has stopped.
    """

    kind: ItemKind
    digest: Digest
    since_s: _Seconds
    until_s: _Seconds = 0

    @property
    def item(self) -> Item:
        """What is marked."""
        return self.kind, self.digest


Item: TypeAlias = tuple[ItemKind, bytes]
MarkTable: TypeAlias = Mapping[Item, RemoteMark]


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The file; the salt keeps two tables of the same marks apart."""

    salt: Annotated[bytes, msgspec.Meta(min_length=_SALT_NBYTES, max_length=_SALT_NBYTES)]
    marks: tuple[RemoteMark, ...]


_FORMAT: Final = RecordFormat(_Record, magic=b"SRrm", version=1, name="table of marks", max_nbytes=MAX_MARKS_NBYTES)


def encode_marks(marks: Iterable[RemoteMark]) -> bytes:
    """The bytes of a new table, equal to no other's."""
    ordered = sorted(marks, key=lambda mark: mark.item)
    return _FORMAT.encode(_Record(secrets.token_bytes(_SALT_NBYTES), tuple(ordered)))


def decode_marks(content: bytes, *, where: str) -> dict[Item, RemoteMark]:
    """The table in `content`; errors name `where`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    marks = _FORMAT.decode(content, where=where).marks
    items = [mark.item for mark in marks]
    if any(before >= after for before, after in pairwise(items)):
        raise MalformedRecordError(f"{where}: its marks are not in order", where=where)
    return {mark.item: mark for mark in marks}


def parse_item(path: str) -> Item | None:
    """The item that a file of a remote belongs to; None for what is not ours to remove."""
    match = _PATH.fullmatch(path)
    if match is None or match["name"][:2] != match["start"] or (match["folder"] == "packs") != bool(match["file"]):
        return None
    return _KINDS[match["folder"]], bytes.fromhex(match["name"])
