"""The operation log: one record for every move of a ref. It serves both reflog and undo."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import MalformedRecordError, NotFoundError
from stockroom.refs.changes import RENAME, RefChange, RefMove
from stockroom.refs.record import RecordFormat
from stockroom.refs.ref import parse_ref

DATABASE: Final = "operations"
UNDO: Final = "undo"
BY_GIT: Final = "git"
"""The kind of a branch's move when it follows git: not ours to undo."""

_KEY: Final = struct.Struct(">Q")
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One move of one ref.

    Attributes:
        number: its number in the log, from 1.
        time_ns: its time in nanoseconds since 1970, UTC.
        kind: "commit", "branch", "delete-branch", "tag", "undo" and the like.
        ref: the ref that moved: "branch/main", "tag/v1", "remote/origin/main".
        old: the ref's commit before; None if it was created.
        new: the ref's commit since; None if it was deleted.
        undoes: the number of the operation that this one undoes, if any.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    time_ns: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    kind: str
    ref: str
    old: _Digest | None
    new: _Digest | None
    note: str = ""
    undoes: int | None = None


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


def plan_undo(newest_first: Iterable[Operation]) -> RefChange:
    """Return the change that reverts our newest change that is neither undone nor an undo.

    A rename moved two refs at once, so it is undone whole.

    Raises:
        NotFoundError: there is none.
    """
    undone: set[int] = set()
    newest: Operation | None = None
    for operation in newest_first:
        if newest is not None:
            is_whole = operation.kind == RENAME and operation.time_ns == newest.time_ns
            return _invert(newest, operation) if is_whole else _invert(newest)
        if operation.undoes is not None:
            undone.add(operation.undoes)
        elif operation.number not in undone and not _is_of_others(operation):
            newest = operation
        elif operation.kind == RENAME and operation.new is not None:  # the later half of it
            undone.add(operation.number - 1)
    if newest is None:
        raise NotFoundError("no operation is left to undo; `stock reflog` lists them")
    return _invert(newest)


def _is_of_others(operation: Operation) -> bool:
    """Return whether the operation happened on a remote or was done by git: it cannot be undone here."""
    return operation.kind == BY_GIT or parse_ref(operation.ref).kind == "remote"


def _invert(newest: Operation, *earlier: Operation) -> RefChange:
    moves = [
        RefMove(ref=parse_ref(one.ref), old=_as_commit(one.new), new=_as_commit(one.old)) for one in (newest, *earlier)
    ]
    return RefChange(
        kind=UNDO,
        moves=tuple(moves),
        note=f"{newest.kind} {newest.ref}",
        undoes=newest.number,
    )


def _as_commit(commit: bytes | None) -> CommitId | None:
    return None if commit is None else CommitId(commit)
