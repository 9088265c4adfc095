"""Who follows whom: of each commit its parents and its generation, kept beside the commits for quick walks.

    offset  size    type    field
    0       4       u32 LE  generation: 1 without parents, else one more than the greatest of its parents'
    4       32 x n  bytes   ids of the parents; none for a commit whose parents are not here on purpose

All of it can be made again from the commits, and is where it is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from stockroom.digest import DIGEST_NBYTES, CommitId
from stockroom.errors import CorruptionError
from stockroom.kv import ReadTxn, WriteTxn
from stockroom.refs.commit import decode_commit

DATABASE: Final = "links"
_GENERATION: Final = struct.Struct("<I")
_ONE_PARENT_NBYTES: Final = _GENERATION.size + DIGEST_NBYTES


class Link(NamedTuple):
    """One commit's place in the graph."""

    generation: int
    parents: tuple[CommitId, ...]


FindLink: TypeAlias = Callable[[CommitId], Link]


def make_finder(txn: ReadTxn) -> FindLink:
    """What gives the links of commits, for as long as the transaction lasts; `CorruptionError` for a missing one."""
    known: dict[CommitId, Link] = {}

    def find(commit_id: CommitId) -> Link:
        link = known.get(commit_id)
        if link is None:
            value = txn.get(DATABASE, commit_id)
            link = known[commit_id] = _work_out(txn, commit_id, known) if value is None else _decode(value)
        return link

    return find


def put_link(txn: WriteTxn, commit_id: CommitId) -> None:
    """Keep the link of a commit that the transaction has just written, and of those before it where it is missing."""
    known: dict[CommitId, Link] = {}
    _work_out(txn, commit_id, known)
    for one, link in known.items():
        txn.put_new(DATABASE, one, _encode(link))


def _work_out(txn: ReadTxn, commit_id: CommitId, known: dict[CommitId, Link]) -> Link:
    """The link of a commit from the records; also puts into `known` all that had to be worked out on the way."""
    waiting = [commit_id]
    while waiting:
        current = waiting[-1]
        parents = _read_parents(txn, current)
        missing = []
        for parent in parents:
            if parent not in known:
                value = txn.get(DATABASE, parent)
                if value is None:
                    missing.append(parent)
                else:
                    known[parent] = _decode(value)
        if missing:
            waiting += missing
            continue
        known[current] = Link(1 + max((known[parent].generation for parent in parents), default=0), parents)
        waiting.pop()
    return known[commit_id]


def _read_parents(txn: ReadTxn, commit_id: CommitId) -> tuple[CommitId, ...]:
    if txn.get("shallow", commit_id) is not None:
        return ()
    where = f"commit {commit_id.hex()}"
    value = txn.get("commits", commit_id)
    if value is None:
        raise CorruptionError(
            f"{where}: missing from this repository; run `stock fsck` to see what is affected", where=where
        )
    return decode_commit(value, where=where).parent_ids


def _encode(link: Link) -> bytes:
    return _GENERATION.pack(link.generation) + b"".join(link.parents)


def _decode(value: bytes) -> Link:
    parents = value[_GENERATION.size :]
    starts = range(0, len(parents), DIGEST_NBYTES)
    return Link(_GENERATION.unpack_from(value)[0], tuple(CommitId(parents[at : at + DIGEST_NBYTES]) for at in starts))
