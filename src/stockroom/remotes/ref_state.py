"""One numbered state of a remote's refs: where its branches and tags stand, and in which bundles its history lies.

    offset  size  type     field
    0       4     bytes    magic "SRrs"
    4       1     u8       version, 1
    5       ...   msgpack  array: number, write id, time_ns, head, branches, tags, bundles

States are complete and never change: a push makes the next one.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Final, TypeAlias

import msgspec

from stockroom.digest import CommitId, PackDigest
from stockroom.errors import InvalidNameError, MalformedRecordError
from stockroom.refs import check_name
from stockroom.refs.record import RecordFormat

MAX_STATE_NBYTES: Final = 16 << 20
WRITE_ID_NBYTES: Final = 16
LATEST_PATH: Final = "refs/latest"

_Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 48))]


class BundleEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A bundle of a remote: its digest, which is its name, its size, and how many records of each kind it holds."""

    digest: _Digest
    nbytes: _Count
    objects: _Count
    commits: _Count
    packs: _Count

    @property
    def path(self) -> str:
        """Where it lies on the remote."""
        return bundle_path(self.digest)


class RefState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """A state of a remote's refs.

    Attributes:
        number: its place in their order, from 1.
        write_id: random bytes of the push that made it, by which that push recognises its own work.
        time_ns: when, in nanoseconds since 1970, UTC.
        head: the branch that a clone checks out.
        branches: name -> commit.
        tags: name -> commit.
        bundles: all that together hold the history of these refs, oldest first.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=99_999_999)]
    write_id: Annotated[bytes, msgspec.Meta(min_length=WRITE_ID_NBYTES, max_length=WRITE_ID_NBYTES)]
    time_ns: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    head: str | None
    branches: dict[str, _Digest]
    tags: dict[str, _Digest]
    bundles: tuple[BundleEntry, ...]

    @property
    def path(self) -> str:
        """Where it lies on the remote."""
        return state_path(self.number)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return _FORMAT.encode(self)

    def find_branch(self, name: str) -> CommitId | None:
        """Where a branch stands, if there is one."""
        found = self.branches.get(name)
        return None if found is None else CommitId(found)

    def list_tips(self) -> list[CommitId]:
        """Every commit that a branch or tag stands at."""
        return [CommitId(tip) for tip in dict.fromkeys([*self.branches.values(), *self.tags.values()])]


_FORMAT: Final = RecordFormat(RefState, magic=b"SRrs", version=1, name="ref state", max_nbytes=MAX_STATE_NBYTES)


def decode_state(content: bytes, *, number: int, where: str) -> RefState:
    """The state of that number in `content`; errors name `where`.

    Raises:
        MalformedRecordError: the bytes do not follow the format, or a name in them breaks the rules.
        FormatVersionError: a newer Stockroom wrote them.
    """
    state = _FORMAT.decode(content, where=where)
    if state.number != number:
        raise MalformedRecordError(f"{where}: expected state {number}, found {state.number}", where=where)
    try:
        for kind, names in (("branch", state.branches), ("tag", state.tags)):
            for name in names:
                check_name(kind, name)
    except InvalidNameError as error:
        raise MalformedRecordError(f"{where}: {error}", where=where) from error
    if state.head is not None and state.head not in state.branches:
        raise MalformedRecordError(f"{where}: its head {state.head!r} is none of its branches", where=where)
    return state


def new_write_id() -> bytes:
    """A write id that no other push has."""
    return secrets.token_bytes(WRITE_ID_NBYTES)


def state_path(number: int) -> str:
    """Where the state of that number lies."""
    return f"refs/{number:08d}"


def bundle_path(digest: bytes) -> str:
    """Where a bundle lies."""
    name = digest.hex()
    return f"bundles/{name[:2]}/{name}"


def pack_prefix(digest: PackDigest) -> str:
    """What the paths of a pack's files begin with."""
    name = digest.hex()
    return f"packs/{name[:2]}/{name}/"
