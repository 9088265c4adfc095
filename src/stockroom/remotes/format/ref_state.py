"""A ref state: the branches and tags of a remote at one moment, and the bundles that hold their history.

    offset  size  type     field
    0       4     bytes    magic "SRrs"
    4       1     u8       version, 1; or 2, with marks
    5       ...   msgpack  array: number, write id, time_ns, head, branches, tags, bundles; in version 2 also marks

States are complete and never change. A push makes the next one, and so does gc.
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import InvalidNameError, MalformedRecordError
from stockroom.refs import check_name
from stockroom.refs.record import RecordFormat
from stockroom.remotes.format.paths import bundle_path, state_path

MAX_STATE_NBYTES: Final = 16 << 20
WRITE_ID_NBYTES: Final = 16
_MAGIC: Final = b"SRrs"
S = TypeVar("S", bound="_StateV1")

Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 48))]


class BundleEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A bundle of a remote: its digest, which names it, its size, and its number of records of each kind."""

    digest: Digest
    nbytes: _Count
    objects: _Count
    commits: _Count
    packs: _Count

    @property
    def path(self) -> str:
        """The path on the remote."""
        return bundle_path(self.digest)


class _StateV1(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """A ref state of version 1, on a remote where gc never ran."""

    number: Annotated[int, msgspec.Meta(ge=1, le=99_999_999)]
    write_id: Annotated[bytes, msgspec.Meta(min_length=WRITE_ID_NBYTES, max_length=WRITE_ID_NBYTES)]
    time_ns: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    head: str | None
    branches: dict[str, Digest]
    tags: dict[str, Digest]
    bundles: tuple[BundleEntry, ...]


class RefState(_StateV1, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """A state of a remote's refs.

    Attributes:
        number: position in the order of states, from 1.
        write_id: random bytes of the push that made it, by which that push recognizes its own work.
        time_ns: when it was made, in nanoseconds since 1970, UTC.
        head: the branch that a clone checks out.
        branches: name -> commit.
        tags: name -> commit.
        bundles: the bundles that together hold the history of these refs, oldest first.
        marks: digest of the table of unreachable items (`format.marks`); None before the first gc.
    """

    marks: Digest | None = None

    @property
    def path(self) -> str:
        """The path on the remote."""
        return state_path(self.number)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return _FORMAT_V1.encode(_convert(self, _StateV1)) if self.marks is None else _FORMAT_V2.encode(self)

    def find_branch(self, name: str) -> CommitId | None:
        """Return the commit of a branch, or None if there is no such branch."""
        found = self.branches.get(name)
        return None if found is None else CommitId(found)

    def list_tips(self) -> list[CommitId]:
        """Return every commit that a branch or tag names."""
        return [CommitId(tip) for tip in dict.fromkeys([*self.branches.values(), *self.tags.values()])]


def _make_format(record: type[S], version: int) -> RecordFormat[S]:
    return RecordFormat(record, magic=_MAGIC, version=version, name="ref state", max_nbytes=MAX_STATE_NBYTES)


_FORMAT_V1: Final = _make_format(_StateV1, 1)
_FORMAT_V2: Final = _make_format(RefState, 2)


def decode_state(content: bytes, *, number: int, where: str) -> RefState:
    """Decode the state with that number from `content`. Errors name `where`.

    Raises:
        MalformedRecordError: the bytes do not follow the format, or a name in them breaks the rules.
        FormatVersionError: a newer Stockroom wrote them.
    """
    if content[: len(_MAGIC) + 1] == _MAGIC + b"\1":
        state = _convert(_FORMAT_V1.decode(content, where=where), RefState)
    else:
        state = _FORMAT_V2.decode(content, where=where)
        if state.marks is None:
            raise MalformedRecordError(f"{where}: expected a state of version 2 to name its marks", where=where)
    if state.number != number:
        raise MalformedRecordError(f"{where}: expected state {number}, found {state.number}", where=where)
    try:
        for kind, names in (("branch", state.branches), ("tag", state.tags)):
            for name in names:
                check_name(kind, name)
    except InvalidNameError as error:
        raise MalformedRecordError(f"{where}: {error}", where=where) from error
    if state.head is not None and state.head not in state.branches:
        raise MalformedRecordError(f"{where}: its head {state.head!r} is not one of its branches", where=where)
    return state


def _convert(state: _StateV1, record: type[S]) -> S:
    """Copy the common fields to a record of another type."""
    return record(**{name: getattr(state, name) for name in _StateV1.__struct_fields__})


def make_following(state: RefState | None, **changes: Any) -> RefState:
    """Return a new state that follows `state` (None: the first), with `changes` to its fields."""
    if state is None:
        state = RefState(number=0, write_id=b"", time_ns=0, head=None, branches={}, tags={}, bundles=())
    now_ns = time.time_ns()
    return msgspec.structs.replace(state, number=state.number + 1, write_id=new_write_id(), time_ns=now_ns, **changes)


def new_write_id() -> bytes:
    """Return a write id that no other push has."""
    return secrets.token_bytes(WRITE_ID_NBYTES)
