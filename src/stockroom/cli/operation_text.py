"""Entries of the operation log as lines and as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.cli.commit_text import short_id

if TYPE_CHECKING:
    from stockroom import Operation


def operation_line(operation: Operation) -> str:
    """`12  2026-11-23 07:30:00 +0000  commit  branch/main  1f2e3d4c5b6a -> a1b2c3d4e5f6`."""
    time = f"{operation.time:%Y-%m-%d %H:%M:%S %z}"
    move = f"{short_id(operation.old)} -> {short_id(operation.new)}"
    return f"{operation.number}  {time}  {operation.kind}  {operation.ref}  {move}"


def operation_document(operation: Operation) -> dict[str, object]:
    """An operation as JSON; `old` and `new` are null where the ref did not exist."""
    return {
        "number": operation.number,
        "time": operation.time.isoformat(),
        "kind": str(operation.kind),
        "ref": operation.ref,
        "old": operation.old,
        "new": operation.new,
    }
