"""The links of the commit graph: the parents and generation of each commit, stored beside the commits for fast walks.

    offset  size    type    field
    0       4       u32 LE  generation: 1 without parents, else one more than the greatest of its parents'
    4       32 x n  bytes   ids of the parents; none for a commit whose parents are left out on purpose

Links can be rebuilt from the commits. Missing ones are computed: a repository from before there were links has none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from stockroom.digest import DIGEST_NBYTES, CommitId
from stockroom.errors import CorruptionError, MalformedRecordError, StockroomError
from stockroom.kv import ReadTxn, WriteTxn
from stockroom.refs.commit import decode_commit

DATABASE: Final = "links"
_GENERATION: Final = struct.Struct("<I")
_ONE_PARENT_NBYTES: Final = _GENERATION.size + DIGEST_NBYTES
_TWO_PARENTS_NBYTES: Final = _GENERATION.size + 2 * DIGEST_NBYTES
_unpack: Final = _GENERATION.unpack_from

Link: TypeAlias = tuple[int, tuple[CommitId, ...]]
"""One commit's place in the graph: its generation and its parents. Walks create many, so it is a plain tuple."""

FindLink: TypeAlias = Callable[[CommitId], Link]


def make_finder(txn: ReadTxn) -> FindLink:
    """Return a function that finds links while `txn` lasts; it raises `CorruptionError` for a missing commit."""
    worked_out: dict[CommitId, Link] = {}

    def find(commit_id: CommitId) -> Link:
        value = txn.get(DATABASE, commit_id)
        if value is not None:
            return _decode(value, commit_id)
        if commit_id not in worked_out:
            _work_out(txn, commit_id, worked_out)
        return worked_out[commit_id]

    return find


def put_link(txn: WriteTxn, commit_id: CommitId, parents: Sequence[CommitId]) -> None:
    """Store the link of a commit that the transaction has just written, and missing links of its ancestors."""
    worked_out: dict[CommitId, Link] = {}
    generation = 1
    for parent in parents:
        value = txn.get(DATABASE, parent)
        if value is None and parent not in worked_out:
            _work_out(txn, parent, worked_out)
        link = worked_out[parent] if value is None else _decode(value, parent)
        generation = max(generation, link[0] + 1)
    worked_out[commit_id] = generation, tuple(parents)
    for one, link in worked_out.items():
        txn.put_new(DATABASE, one, _encode(link))


def rebuild_links(txn: WriteTxn) -> int:
    """Rebuild all links from the commit records; returns their number. Commits with damaged history get none."""
    for commit_id in [key for key, _ in txn.iterate(DATABASE)]:
        txn.delete(DATABASE, commit_id)
    found: dict[CommitId, Link] = {}
    for commit_id in [CommitId(key) for key, _ in txn.iterate("commits")]:
        if commit_id not in found:
            with suppress(StockroomError):
                _work_out(txn, commit_id, found)
    for commit_id, link in found.items():
        txn.put(DATABASE, commit_id, _encode(link))
    return len(found)


def check_link(txn: ReadTxn, commit_id: CommitId) -> None:
    """Raise `CorruptionError` if the stored link of a commit contradicts its record."""
    value = txn.get(DATABASE, commit_id)
    if value is None:
        return
    find, parents = make_finder(txn), _read_parents(txn, commit_id)
    if _decode(value, commit_id) != (1 + max((find(parent)[0] for parent in parents), default=0), parents):
        where = f"link of commit {commit_id.hex()}"
        raise CorruptionError(f"{where}: does not match its record; run `stock fsck`", where=where)


def _work_out(txn: ReadTxn, commit_id: CommitId, found: dict[CommitId, Link]) -> None:
    """Compute the link of a commit from the records, and the links it depends on, and add them to `found`."""
    waiting = [commit_id]
    while waiting:
        current = waiting[-1]
        parents = _read_parents(txn, current)
        for parent in parents:
            if parent not in found and (value := txn.get(DATABASE, parent)) is not None:
                found[parent] = _decode(value, parent)
        missing = [parent for parent in parents if parent not in found]
        waiting += missing
        if not missing:
            found[current] = 1 + max((found[parent][0] for parent in parents), default=0), parents
            waiting.pop()


def _read_parents(txn: ReadTxn, commit_id: CommitId) -> tuple[CommitId, ...]:
    if txn.get("shallow", commit_id) is not None:
        return ()
    where = f"commit {commit_id.hex()}"
    value = txn.get("commits", commit_id)
    if value is None:
        raise CorruptionError(
            f"{where}: missing from this repository; run `stock fsck` to list the damage", where=where
        )
    return decode_commit(value, where=where).parent_ids


def _encode(link: Link) -> bytes:
    return _GENERATION.pack(link[0]) + b"".join(link[1])


def _decode(value: bytes, commit_id: CommitId) -> Link:
    nbytes = len(value)
    if nbytes == _ONE_PARENT_NBYTES:
        parents: tuple[bytes, ...] = (value[4:],)
    elif nbytes == _TWO_PARENTS_NBYTES:
        parents = value[4:36], value[36:]
    elif nbytes % DIGEST_NBYTES == _GENERATION.size:
        starts = range(_GENERATION.size, nbytes, DIGEST_NBYTES)
        parents = tuple(value[start : start + DIGEST_NBYTES] for start in starts)
    else:
        where = f"link of commit {commit_id.hex()}"
        raise MalformedRecordError(f"{where}: expected a link, found {nbytes} bytes; run `stock fsck`", where=where)
    return _unpack(value)[0], parents  # type: ignore[return-value]  # plain bytes: a walk makes thousands
