"""Dropped stages: the records of stages that operations name, so that undo and redo can restore them.

A record is here only while everything that the stage refers to is here. gc deletes old ones before any object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stockroom.digest import check_digest
from stockroom.kv import ReadTxn, WriteTxn
from stockroom.refs.objects import DATABASE as OBJECTS
from stockroom.refs.operations import DATABASE as OPERATIONS
from stockroom.refs.operations import Operation, decode_operation
from stockroom.refs.stage import Stage, decode_stage, digest_stage, encode_stage

DATABASE: Final = "dropped"


def keep_stage(txn: WriteTxn, stage: Stage) -> bytes:
    """Keep a stage, unless it is damaged, and return the digest of its record."""
    digest = digest_stage(stage)
    needed = [stage.root] if stage.merging is None else [stage.root, stage.merging]
    if all(txn.get(OBJECTS, needed_digest) is not None for needed_digest in needed):
        txn.put_new(DATABASE, digest, encode_stage(stage))
    return digest


def find_stage(txn: ReadTxn, digest: bytes) -> Stage | None:
    """Return the dropped stage whose record has that digest, or None.

    Raises `CorruptionError` if it is damaged.
    """
    value = txn.get(DATABASE, digest)
    if value is None:
        return None
    where = f"dropped stage {digest.hex()}"
    check_digest(value, digest, where=where)
    return decode_stage(value, where=where)


def iter_stages(txn: ReadTxn, operation: Operation) -> Iterator[Stage]:
    """Yield the dropped stages that an operation names and that are still here."""
    if operation.stage_name is not None:
        found = (find_stage(txn, end) for end in (operation.old, operation.new) if end is not None)
        yield from (stage for stage in found if stage is not None)


def list_old(txn: ReadTxn, *, since_ns: int) -> set[bytes]:
    """Return the digests of the dropped stages that no operation from `since_ns` on names."""
    old = {digest for digest, _ in txn.iterate(DATABASE)}
    if old:
        for key, value in txn.iterate(OPERATIONS):
            operation = decode_operation(key, value)
            if operation.stage_name is not None and operation.time_ns >= since_ns:
                old -= {operation.old, operation.new}
    return old
