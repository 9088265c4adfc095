"""Anchors: the roots of reachability that the refs environment holds at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from stockroom.digest import CommitId
from stockroom.kv import ReadTxn
from stockroom.refs.dropped import iter_stages
from stockroom.refs.operations import DATABASE as OPERATIONS
from stockroom.refs.operations import decode_operation, encode_number
from stockroom.refs.stage import Stage, decode_stage


@dataclass(frozen=True, slots=True)
class Anchors:
    """The commits and stages that refs, stages and the operation log keep.

    Attributes:
        refs: commits of branches, tags and remote-tracking branches.
        stages: every stage, of every work tree and session.
        recent: commits at both ends of recent operations.
        dropped: stages at both ends of recent operations.
        operation: the number of the newest operation.
    """

    refs: frozenset[CommitId]
    stages: tuple[Stage, ...]
    recent: frozenset[CommitId]
    dropped: tuple[Stage, ...]
    operation: int


def read_anchors(txn: ReadTxn, *, since_ns: int, after: int = 0) -> Anchors:
    """Return the current anchors; operations count from `since_ns` on, with numbers above `after`."""
    refs = frozenset(CommitId(value) for db in ("branches", "tags", "remotes") for _, value in txn.iterate(db))
    stages = tuple(decode_stage(value, where=f"stage {key!r}") for key, value in txn.iterate("stage"))
    ends: set[CommitId] = set()
    dropped: dict[Stage, None] = {}
    newest = after
    for key, value in txn.iterate(OPERATIONS, encode_number(after + 1)):
        operation = decode_operation(key, value)
        newest = operation.number
        if operation.time_ns < since_ns:
            continue
        if operation.stage_name is None:
            ends.update(CommitId(end) for end in (operation.old, operation.new) if end is not None)
        dropped.update(dict.fromkeys(iter_stages(txn, operation)))
    return Anchors(refs, stages, frozenset(ends), tuple(dropped), newest)
