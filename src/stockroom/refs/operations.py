"""The operation log: one record for every move of a ref, and of a stage whose changes were dropped or restored.

It serves reflog, undo and redo. The operations of one change have the same time, and the next change has another one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Final, TypeAlias

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import MalformedRecordError
from stockroom.refs.changes import RefMove
from stockroom.refs.record import RecordFormat
from stockroom.refs.ref import parse_ref

DATABASE: Final = "operations"
UNDO: Final = "undo"
REDO: Final = "redo"
CLONE: Final = "clone"
FETCH: Final = "fetch"
BY_GIT: Final = "git"
"""The kind of a branch's move when it follows git: not ours to undo."""
STAGE: Final = "stage/"
"""Begins the `ref` of an operation that moved a stage."""

_OF_OTHERS: Final = frozenset({BY_GIT, CLONE, FETCH})

_KEY: Final = struct.Struct(">Q")
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One move of one ref, or of a stage.

    Attributes:
        number: its number in the log, from 1.
        time_ns: its time in nanoseconds since 1970, UTC; the same for all operations of one change.
        kind: "commit", "branch", "delete-branch", "tag", "reset", "undo" and the like.
        ref: the ref that moved: "branch/main", "tag/v1", "remote/origin/main"; or the stage: "stage/work".
        old: the ref's commit before; None if it was created. For a stage: its record's digest; None if it was empty.
        new: the ref's commit since; None if it was deleted. For a stage as in `old`.
        undoes: the number of the first operation of the change that an undo or redo takes back.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    time_ns: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    kind: str
    ref: str
    old: _Digest | None
    new: _Digest | None
    note: str = ""
    undoes: int | None = None

    @property
    def stage_name(self) -> str | None:
        """The name of the stage that moved; None for a ref."""
        return self.ref.removeprefix(STAGE) if self.ref.startswith(STAGE) else None

    def __repr__(self) -> str:
        time = datetime.fromtimestamp(self.time_ns / 1e9, UTC).isoformat(" ", "seconds")
        ends = ", ".join(f"{name}={end and end.hex()!r}" for name, end in (("old", self.old), ("new", self.new)))
        return (
            f"Operation(number={self.number}, time={time!r}, kind={self.kind!r}, ref={self.ref!r}, {ends}, "
            f"note={self.note!r}, undoes={self.undoes})"
        )


Change: TypeAlias = tuple[Operation, ...]
"""The operations of one change, in order of number."""


_FORMAT: Final = RecordFormat(Operation, magic=b"SRop", version=1, name="operation", max_nbytes=1 << 20)


def encode_operation(operation: Operation) -> tuple[bytes, bytes]:
    """Encode an operation as key and value; keys sort by number."""
    return _KEY.pack(operation.number), _FORMAT.encode(operation)


def decode_operation(key: bytes, value: bytes) -> Operation:
    """Decode the operation under `key`.

    Raises:
        MalformedRecordError: the bytes do not follow the format.
        FormatVersionError: a newer Stockroom wrote them.
    """
    where = f"operation {key.hex()}"
    operation = _FORMAT.decode(value, where=where)
    if key != _KEY.pack(operation.number):
        raise MalformedRecordError(f"{where}: expected its own number, found {operation.number}", where=where)
    return operation


def encode_number(number: int) -> bytes:
    """Return the key of an operation."""
    return _KEY.pack(number)


def iter_undoable(newest_first: Iterable[Operation], *, stage: str) -> Iterator[Change]:
    """Yield the changes that are neither undone nor an undo, newest first; of stages, only those of `stage`."""
    undone: set[int | None] = set()
    redone: set[int | None] = set()
    for change in _iter_changes(newest_first):
        first = change[0]
        if first.kind == REDO:
            redone.add(first.undoes)
        elif first.undoes is not None:
            undone |= set() if _is_in(redone, change) else {first.undoes}
        elif not _is_in(undone, change) and _is_ours(change, stage):
            yield change


def iter_redoable(newest_first: Iterable[Operation], *, stage: str) -> Iterator[Change]:
    """Yield the undos that are not redone, newest first, down to the newest change of another kind."""
    redone: set[int | None] = set()
    for change in _iter_changes(newest_first):
        first = change[0]
        if first.kind == REDO:
            redone.add(first.undoes)
        elif not _is_ours(change, stage):
            continue
        elif first.undoes is None:
            return
        elif not _is_in(redone, change):
            yield change


def invert_moves(change: Change) -> tuple[RefMove, ...]:
    """Return the moves of refs that take a change back, without its stages."""
    return tuple(
        RefMove(ref=parse_ref(operation.ref), old=_as_commit(operation.new), new=_as_commit(operation.old))
        for operation in change
        if operation.stage_name is None
    )


def _as_commit(end: bytes | None) -> CommitId | None:
    return None if end is None else CommitId(end)


def _iter_changes(newest_first: Iterable[Operation]) -> Iterator[Change]:
    for _, operations in groupby(newest_first, key=lambda operation: operation.time_ns):
        yield tuple(operations)[::-1]


def _is_in(numbers: set[int | None], change: Change) -> bool:
    return any(operation.number in numbers for operation in change)


def _is_ours(change: Change, stage: str) -> bool:
    """Return whether a change was made here: not on a remote, nor by git, nor to the stage of another work tree."""
    return not any(
        operation.kind in _OF_OTHERS or operation.ref.startswith("remote/") or operation.stage_name not in (None, stage)
        for operation in change
    )
