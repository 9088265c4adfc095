"""Entries of the operation log, and moves of refs, as lines and documents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stockroom.cli.render.commit import short_id

if TYPE_CHECKING:
    from stockroom.digest import CommitId
    from stockroom.refs import Operation


def operation_line(operation: Operation) -> str:
    """Return `12  2026-11-23 07:30:00 +0000  commit  branch/main  1f2e3d4c5b6a -> a1b2c3d4e5f6`."""
    time = f"{_time_of(operation):%Y-%m-%d %H:%M:%S %z}"
    return f"{operation.number}  {time}  {operation.kind}  {operation.ref}  {move_text(operation)}"


def move_text(operation: Operation) -> str:
    """Return `1f2e3d4c5b6a -> a1b2c3d4e5f6`; dots if the ref did not exist, or was deleted."""
    return f"{short_id(_hex(operation.old))} -> {short_id(_hex(operation.new))}"


def format_move(ref: str, old: CommitId | None, new: CommitId | None) -> str:
    """Return `main  3f9a1b2c4d5e -> 9c8b7a6f5e4d`."""
    name = ref.partition("/")[2]
    if new is None:
        return f"{name}  deleted (was {old.hex()[:12] if old else '-'})"
    return f"{name}  {old.hex()[:12] if old else 'new'} -> {new.hex()[:12]}"


def move_document(ref: str, old: CommitId | None, new: CommitId | None) -> dict[str, object]:
    """Return a moved ref as JSON."""
    return {"ref": ref, "old": old.hex() if old else None, "new": new.hex() if new else None}


def undone_text(operation: Operation) -> str:
    """Return `branch/main is back at 1f2e3d4c5b6a (was a1b2c3d4e5f6)`."""
    if operation.stage_name is not None:
        return "the staged changes are back"
    was = short_id(_hex(operation.new)) if operation.new else "deleted"
    if operation.old is None:
        return f"{operation.ref} is gone (was {was})"
    return f"{operation.ref} is back at {short_id(_hex(operation.old))} (was {was})"


def done_text(operation: Operation) -> str:
    """Return `branch/main is at a1b2c3d4e5f6 again (was 1f2e3d4c5b6a)`."""
    if operation.stage_name is not None:
        return "the staged changes are discarded again"
    if operation.new is None:
        return f"{operation.ref} is deleted again (was {short_id(_hex(operation.old))})"
    was = f" (was {short_id(_hex(operation.old))})" if operation.old else ""
    return f"{operation.ref} is at {short_id(_hex(operation.new))} again{was}"


def operation_document(operation: Operation) -> dict[str, object]:
    """Return an operation as JSON; `old` is null if the ref did not exist, `new` if it was deleted."""
    return {
        "number": operation.number,
        "time": _time_of(operation).isoformat(),
        "kind": operation.kind,
        "ref": operation.ref,
        "old": _hex(operation.old),
        "new": _hex(operation.new),
        "note": operation.note,
        "undoes": operation.undoes,
    }


def _time_of(operation: Operation) -> datetime:
    return datetime.fromtimestamp(operation.time_ns / 1e9, UTC)


def _hex(commit_id: bytes | None) -> str | None:
    return None if commit_id is None else commit_id.hex()
