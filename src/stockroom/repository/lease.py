"""The writer's lease: one writer per stage. Its lock file also names the holder, for messages."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stockroom.errors import LockedError
from stockroom.locks import FileLock

_NAMING_S = 0.25
"""How long a new holder may take to write its name."""


class Holder(msgspec.Struct, frozen=True):
    """The holder of a lease: process id, host name, and when it took the lease (ISO 8601, UTC)."""

    pid: int
    host: str
    since: str


_decoder = msgspec.json.Decoder(Holder)


def acquire_lease(path: Path, *, timeout_s: float) -> FileLock:
    """Return the lease whose lock file is `path`, after waiting up to `timeout_s`.

    Raises `LockedError` naming the holder if it is still taken, `ReadOnlyError` if the file cannot be written.
    """
    lock = FileLock(path)
    try:
        if not lock.wait(timeout_s) and (_read_holder(lock) or not lock.wait(_NAMING_S)):
            raise _describe_holder(_read_holder(lock), timeout_s)
        holder = Holder(os.getpid(), os.uname().nodename, datetime.now(UTC).isoformat(timespec="seconds"))
        lock.write_note(msgspec.json.encode(holder))
    except BaseException:
        lock.release()
        raise
    return lock


def _read_holder(lock: FileLock) -> Holder | None:
    try:
        return _decoder.decode(lock.read_note())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _describe_holder(holder: Holder | None, timeout_s: float) -> LockedError:
    if holder is None:
        return LockedError(f"another writer holds the stage (waited {timeout_s:g} s); try again when it finishes")
    return LockedError(
        f"process {holder.pid} on {holder.host} has been writing since {holder.since} (waited {timeout_s:g} s); "
        "try again when it finishes, or end it",
        pid=holder.pid,
        host=holder.host,
        since=holder.since,
    )
