"""Applies a change of refs inside its one write transaction.

Objects come first, then commits, refs, stages and the log: everything that a ref refers to is there before the ref.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import NotFoundError, RefChangedError, StockroomError
from stockroom.kv import WriteTxn
from stockroom.refs.changes import RefChange, RefMove
from stockroom.refs.commit import CommitRecord, decode_commit
from stockroom.refs.dropped import DATABASE as DROPPED
from stockroom.refs.dropped import keep_stage
from stockroom.refs.links import put_link, rebuild_links
from stockroom.refs.names import FoldedNames, check_collision, check_name
from stockroom.refs.objects import DATABASE as OBJECTS
from stockroom.refs.objects import write_objects
from stockroom.refs.operations import DATABASE as OPERATIONS
from stockroom.refs.operations import STAGE, Operation, decode_operation, encode_operation
from stockroom.refs.stage import Stage, digest_stage, encode_stage

DATABASE_OF_KIND: Final = {"branch": "branches", "tag": "tags", "remote": "remotes"}

_Ends: TypeAlias = tuple[str, bytes | None, bytes | None]
"""The ref of an operation, its old and its new end."""


def apply_change(
    txn: WriteTxn,
    change: RefChange,
    *,
    records: Mapping[CommitId, CommitRecord],
    encoded: dict[ObjectDigest, bytes],
    time_ns: int,
) -> tuple[list[int], tuple[Operation, ...]]:
    """Apply `change`; returns the sizes of the new objects, and the operations logged."""
    sizes = write_objects(txn, encoded)
    for commit_id in change.shallow:
        txn.put("shallow", commit_id, b"")
    for commit_id, record in records.items():
        _add_commit(txn, commit_id, record)
    _change_depth(txn, change, records)
    names: dict[str, FoldedNames] = {}
    for move in change.moves:
        _move_ref(txn, move, names)
    _set_stages(txn, change.stages)
    ends = [*((str(move.ref), move.old, move.new) for move in change.moves), *_move_stages(txn, change)]
    return sizes, _log(txn, change, ends, time_ns=time_ns)


def _add_commit(txn: WriteTxn, commit_id: CommitId, record: CommitRecord) -> None:
    _require(txn, OBJECTS, record.tree, what="the commit's tree")
    parents = record.parent_ids if txn.get("shallow", commit_id) is None else ()
    for parent in parents:
        _require(txn, "commits", parent, what="the commit's parent")
    txn.put_new("commits", commit_id, record.encode())
    put_link(txn, commit_id, parents)


def _change_depth(txn: WriteTxn, change: RefChange, records: Mapping[CommitId, CommitRecord]) -> None:
    """Give commits that were shallow their parents. The links of everything above old commits that change follow."""
    for commit_id in change.whole:
        value = txn.get("commits", commit_id)
        for parent in () if value is None else decode_commit(value, where=commit_id.hex()).parent_ids:
            _require(txn, "commits", parent, what="the commit's parent")
        txn.delete("shallow", commit_id)
    if change.whole or not records.keys() >= set(change.shallow):
        rebuild_links(txn)


def _move_ref(txn: WriteTxn, move: RefMove, names: dict[str, FoldedNames]) -> None:
    """Move a ref; `names` has those of a database from its first new ref on."""
    kind, name = move.ref
    db = DATABASE_OF_KIND[kind]
    if move.old is None:
        check_name(kind, name)
        if db not in names:
            names[db] = FoldedNames(key.decode() for key, _ in txn.iterate(db))
        other = names[db].find_colliding(name)
        check_collision(kind, name, () if other is None else (other,))
    key = name.encode()
    found = txn.get(db, key)
    if found != move.old:
        raise RefChangedError(
            f"{kind} {name!r}: expected {_say(move.old)}, found {_say(found)}; review the change and try again"
        )
    if move.new is None:
        txn.delete(db, key)
    else:
        _require(txn, "commits", move.new, what=f"the new commit of {kind} {name!r}")
        txn.put(db, key, move.new)
    if db in names:
        (names[db].discard if move.new is None else names[db].add)(name)


def _set_stages(txn: WriteTxn, stages: Mapping[str, Stage | None]) -> None:
    for name, stage in stages.items():
        if stage is None:
            txn.delete("stage", name.encode())
            continue
        _require(txn, OBJECTS, stage.root, what="the stage's tree")
        if stage.merging is not None:
            _require(txn, OBJECTS, stage.merging, what="the merge record")
        txn.put("stage", name.encode(), encode_stage(stage))


def _move_stages(txn: WriteTxn, change: RefChange) -> list[_Ends]:
    """Set stages, keep both ends of each move, and return them. What undo and redo restore must have been kept."""
    ends: list[_Ends] = []
    for move in change.stage_moves:
        if move.new is not None and change.undoes is not None:
            _require(txn, DROPPED, digest_stage(move.new), what="the stage")
        _set_stages(txn, {move.name: move.new})
        old, new = (None if stage is None else keep_stage(txn, stage) for stage in (move.old, move.new))
        ends.append((f"{STAGE}{move.name}", old, new))
    return ends


def _log(txn: WriteTxn, change: RefChange, ends: Sequence[_Ends], *, time_ns: int) -> tuple[Operation, ...]:
    """Log a change, with one time for all its operations that the last change does not have."""
    last = txn.last(OPERATIONS)
    first = 1 if last is None else int.from_bytes(last[0], "big") + 1
    with suppress(StockroomError):  # a damaged log must not prevent changes
        if last is not None and decode_operation(*last).time_ns == time_ns:
            time_ns += 1
    done = tuple(
        Operation(
            number=first + position,
            time_ns=time_ns,
            kind=change.kind,
            ref=ref,
            old=old,
            new=new,
            note=change.note,
            undoes=change.undoes,
        )
        for position, (ref, old, new) in enumerate(ends)
    )
    for operation in done:
        txn.append(OPERATIONS, *encode_operation(operation))
    return done


def _require(txn: WriteTxn, db: str, digest: bytes, *, what: str) -> None:
    if txn.get(db, digest) is None:
        raise NotFoundError(f"{what} {digest.hex()} is not in this repository; nothing was changed")


def _say(commit_id: bytes | None) -> str:
    return "nothing" if commit_id is None else commit_id.hex()
