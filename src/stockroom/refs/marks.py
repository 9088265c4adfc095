"""Marks: gc's record of unreachable items, since when, and since which of its rounds.

    key                    value
    "g"                    u64 LE  the round in which marks were last changed
    kind + digest          u64 LE  when it was first marked, nanoseconds since 1970; u64 LE  the round then
    "l" + digest           empty: a leaving pack, which is partial and which its remotes no longer describe
    "x" + digest           u64 LE  when gc deleted the commit, nanoseconds since 1970; kept for 90 days

Kinds: `c` commit, `o` object, `p` pack. A mark is removed when its item is reachable again, or put again. Losing marks
costs time, never data: an item that is marked again waits again.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import MalformedRecordError
from stockroom.kv import Environment, ReadTxn, WriteTxn

DATABASE: Final = "marks"
_ROUND_KEY: Final = b"g"
_LEAVING_KEY: Final = b"l"
_COLLECTED_KEY: Final = b"x"
_COLLECTED_KEPT_NS: Final = 90 * 24 * 3600 * 10**9
_ROUND: Final = struct.Struct("<Q")
_TIME: Final = struct.Struct("<Q")
_MARK: Final = struct.Struct("<QQ")


class MarkKind(bytes, Enum):
    """The kind of a marked item."""

    COMMIT = b"c"
    OBJECT = b"o"
    PACK = b"p"


@dataclass(frozen=True, slots=True)
class Mark:
    """The time, in nanoseconds since 1970, and the round since which something is unreachable."""

    since_ns: int
    round: int


class MarkStore:
    """The marks of one repository."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    def read_round(self) -> int:
        """Return the round in which marks were last changed; 0 before the first."""
        return self._env.view(read_round)

    def read(self, kind: MarkKind) -> dict[bytes, Mark]:
        """Return digest -> mark, of one kind."""
        return self._env.view(lambda txn: read_marks(txn, kind))

    def read_marked_packs(self) -> tuple[int, list[bytes]]:
        """Return the round, and the packs that no writer may rely on: all marked ones, and those leaving."""
        return self._env.view(lambda txn: (read_round(txn), [*read_marks(txn, MarkKind.PACK), *_read_leaving(txn)]))

    def read_leaving(self) -> set[bytes]:
        """Return the packs whose absent rows no remote will keep."""
        return self._env.view(_read_leaving)

    def replace_leaving(self, packs: Collection[bytes]) -> None:
        """Set exactly these packs as leaving."""
        if self.read_leaving() != set(packs):
            self._env.update(lambda txn: _replace_leaving(txn, set(packs)))

    def find_collected(self, hex_prefix: str) -> tuple[CommitId, int] | None:
        """Return a commit that gc has deleted, by its digest or a prefix of it, and when; None if none is known."""
        whole = bytes.fromhex(hex_prefix[: len(hex_prefix) // 2 * 2])

        def find(txn: ReadTxn) -> tuple[CommitId, int] | None:
            found = ((key[1:], value) for key, value in txn.iterate(DATABASE, prefix=_COLLECTED_KEY + whole))
            fitting = ((CommitId(c), int(_unpack(_TIME, v)[0])) for c, v in found if c.hex().startswith(hex_prefix))
            return next(fitting, None)

        return self._env.view(find)

    def has(self, kind: MarkKind, digest: bytes) -> bool:
        """Return whether something is marked."""
        return self._env.view(lambda txn: is_marked(txn, kind, digest))

    def replace(self, found: Mapping[MarkKind, Collection[bytes]], *, now_ns: int) -> int:
        """Mark exactly these; those already marked keep their marks. Returns the current round."""
        return self._env.update(lambda txn: _replace(txn, found, now_ns))

    def unmark(self, kind: MarkKind, digest: bytes) -> None:
        """Remove a mark: a marked item is used again."""
        if self.has(kind, digest):
            self._env.update(lambda txn: unmark(txn, kind, digest))


def read_round(txn: ReadTxn) -> int:
    """Return the round in which marks were last changed."""
    value = txn.get(DATABASE, _ROUND_KEY)
    return 0 if value is None else int(_unpack(_ROUND, value)[0])


def read_marks(txn: ReadTxn, kind: MarkKind) -> dict[bytes, Mark]:
    """Return digest -> mark, of one kind."""
    return {key[1:]: decode_mark(value) for key, value in txn.iterate(DATABASE, prefix=kind.value)}


def decode_mark(value: bytes) -> Mark:
    """Decode a mark; raises `MalformedRecordError` if it is malformed."""
    return Mark(*_unpack(_MARK, value))


def is_marked(txn: ReadTxn, kind: MarkKind, digest: bytes) -> bool:
    """Return whether something is marked."""
    return txn.get(DATABASE, kind.value + digest) is not None


def unmark(txn: WriteTxn, kind: MarkKind, digest: bytes) -> bool:
    """Remove a mark; returns whether there was one."""
    return txn.delete(DATABASE, kind.value + digest)


def note_collected(txn: WriteTxn, commits: Iterable[CommitId], *, now_ns: int) -> None:
    """Record that gc deletes commits, and forget those of long ago."""
    for key, value in list(txn.iterate(DATABASE, prefix=_COLLECTED_KEY)):
        if _unpack(_TIME, value)[0] < now_ns - _COLLECTED_KEPT_NS:
            txn.delete(DATABASE, key)
    for commit in commits:
        txn.put(DATABASE, _COLLECTED_KEY + commit, _TIME.pack(now_ns))


def _read_leaving(txn: ReadTxn) -> set[bytes]:
    return {key[1:] for key, _ in txn.iterate(DATABASE, prefix=_LEAVING_KEY)}


def _replace_leaving(txn: WriteTxn, packs: set[bytes]) -> None:
    old = _read_leaving(txn)
    for pack in old - packs:
        txn.delete(DATABASE, _LEAVING_KEY + pack)
    for pack in sorted(packs - old):
        txn.put(DATABASE, _LEAVING_KEY + pack, b"")


def _unpack(fields: struct.Struct, value: bytes) -> tuple[int, ...]:
    if len(value) != fields.size:
        where = "gc's marks"
        raise MalformedRecordError(f"{where}: expected {fields.size} bytes, found {len(value)}", where=where)
    return fields.unpack(value)


def _replace(txn: WriteTxn, found: Mapping[MarkKind, Collection[bytes]], now_ns: int) -> int:
    current, is_changed = read_round(txn) + 1, False
    for kind in MarkKind:
        old, new = set(read_marks(txn, kind)), set(found.get(kind, ()))
        for digest in old - new:
            txn.delete(DATABASE, kind.value + digest)
        for digest in sorted(new - old):
            txn.put(DATABASE, kind.value + digest, _MARK.pack(now_ns, current))
        is_changed = is_changed or old != new
    if not is_changed:
        return current - 1
    txn.put(DATABASE, _ROUND_KEY, _ROUND.pack(current))
    return current
