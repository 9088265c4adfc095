"""The operation log: one record for every move of a ref, which makes it reflog and undo in one."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import MalformedRecordError, NotFoundError
from stockroom.refs.changes import RefChange, RefMove
from stockroom.refs.record import RecordFormat
from stockroom.refs.ref import parse_ref

DATABASE: Final = "operations"
UNDO: Final = "undo"
BY_GIT: Final = "git"
"""What a branch does that follows git: not ours to undo."""

_KEY: Final = struct.Struct(">Q")
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One move of one ref.

    Attributes:
        number: its place in the log, from 1.
        time_ns: when, in nanoseconds since 1970, UTC.
        kind: what was done: "commit", "branch", "delete-branch", "tag", "undo" and the like.
        ref: what moved: "branch/main", "tag/v1", "remote/origin/main".
        old: where it stood before; None where it was created.
        new: where it stands since; None where it was deleted.
        undoes: the number of the operation this one takes back, if any.
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
    """Key and value of an operation; keys sort by number."""
    return _KEY.pack(operation.number), _FORMAT.encode(operation)


def decode_operation(key: bytes, value: bytes) -> Operation:
    """The operation under `key`.

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
    """The key of the operation of that number."""
    return _KEY.pack(number)


def plan_undo(newest_first: Iterable[Operation]) -> RefChange:
    """The change that takes back the newest operation of our own which is neither undone nor itself an undo.

    Raises:
        NotFoundError: there is none.
    """
    undone: set[int] = set()
    for operation in newest_first:
        if operation.undoes is not None:
            undone.add(operation.undoes)
        elif operation.number not in undone and not _is_of_others(operation):
            return _invert(operation)
    raise NotFoundError("expected an operation to undo, found none left; `stock reflog` lists them")


def _is_of_others(operation: Operation) -> bool:
    """Whether it says what happened on a remote, or what git did: that stays seen."""
    return operation.kind == BY_GIT or parse_ref(operation.ref).kind == "remote"


def _invert(operation: Operation) -> RefChange:
    old = None if operation.new is None else CommitId(operation.new)
    new = None if operation.old is None else CommitId(operation.old)
    return RefChange(
        kind=UNDO,
        moves=(RefMove(ref=parse_ref(operation.ref), old=old, new=new),),
        note=f"{operation.kind} {operation.ref}",
        undoes=operation.number,
    )
