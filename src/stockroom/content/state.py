"""The records of nested states: a model, an artifact, a value of an experiment.

A **state record** refers to a tree from leaf paths to entries like those of a `bytes` column, so saving a state again
shares everything unchanged with the previous one. A **value record** holds a small state whole.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from stockroom.content.nodes import Leaf, StateNode, measure_leaf
from stockroom.content.structure import Structure, check_structure
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import MalformedRecordError
from stockroom.refs.record import RecordFormat
from stockroom.store.entry import EntryFormat
from stockroom.trees import KeyType, TreeFormat

MAX_VALUE_NBYTES: Final = 16 << 10
"""The most bytes that the leaves of a value record may have together; a larger state has a state record."""

STATE_ENTRIES: Final = EntryFormat(1, (None,))
STATE_TREE: Final = TreeFormat(KeyType.STR, STATE_ENTRIES.width)


class StateRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A nested state of any size.

    `structure` is the digest of its structure object. `root` is the root node of the tree from leaf paths to entries.
    `metadata` is the user's small JSON mapping, or Stockroom's notes on an artifact.
    """

    structure: bytes
    root: bytes
    metadata: dict[str, Any]

    entry_format: ClassVar[EntryFormat] = STATE_ENTRIES
    tree_format: ClassVar[TreeFormat] = STATE_TREE

    def encode(self) -> bytes:
        """Return the canonical bytes of the object: magic `SRse`, version 1, then the fields as msgpack."""
        return _STATE_FORMAT.encode(self)


class ValueRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small nested state: its structure, and the bytes of its stored leaves in order."""

    structure: StateNode
    payloads: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the canonical bytes of the object: magic `SRva`, version 1, then the fields as msgpack."""
        return _VALUE_FORMAT.encode(self)

    def list_leaves(self) -> dict[str, tuple[Leaf, bytes]]:
        """Return the stored leaves by path, with their bytes."""
        stored = Structure(self.structure).stored.items()
        return {path: (leaf, data) for (path, leaf), data in zip(stored, self.payloads, strict=True)}


_STATE_FORMAT: Final = RecordFormat(StateRecord, magic=b"SRse", version=1, name="state", max_nbytes=1 << 20)
_VALUE_FORMAT: Final = RecordFormat(ValueRecord, magic=b"SRva", version=1, name="value", max_nbytes=1 << 20)


def decode_state(data: bytes, *, where: str) -> StateRecord:
    """Return the state record in `data`. Raises `MalformedRecordError` naming `where` if `data` is invalid."""
    record = _STATE_FORMAT.decode(data, where=where)
    if {len(record.structure), len(record.root)} != {DIGEST_NBYTES}:
        raise MalformedRecordError(f"{where}: malformed state record (not a digest); run `stock fsck`", where=where)
    return record


def decode_value(data: bytes, *, where: str) -> ValueRecord:
    """Return the value record in `data`. Raises `MalformedRecordError` naming `where` if `data` is invalid."""
    record = _VALUE_FORMAT.decode(data, where=where)
    expected = [measure_leaf(leaf) for leaf in check_structure(record.structure, where=where).stored.values()]
    found = [len(payload) for payload in record.payloads]
    fits = len(expected) == len(found) and all(e in (None, f) for e, f in zip(expected, found, strict=True))
    if not fits or sum(found) > MAX_VALUE_NBYTES:
        raise MalformedRecordError(
            f"{where}: malformed value record (its bytes do not fit its structure); run `stock fsck`", where=where
        )
    return record
