"""The writer's lease: one writer per stage. Its lock file also names the holder, for messages."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stockroom.content.printable import as_line
from stockroom.errors import LockedError
from stockroom.locks import FileLock

_NOTEBOOK = "notebook"
_MAX_PROGRAM = 60
_NAMING_S = 0.25
"""How long a new holder may take to write its name."""


class Holder(msgspec.Struct, frozen=True):
    """The holder of a lease: process id, host name, when it took the lease (ISO 8601, UTC), and its program."""

    pid: int
    host: str
    since: str
    program: str = ""


_decoder = msgspec.json.Decoder(Holder)


def acquire_lease(path: Path, *, timeout_s: float) -> FileLock:
    """Return the lease whose lock file is `path`, after waiting up to `timeout_s`.

    Raises `LockedError` naming the holder if it is still taken, `ReadOnlyError` if the file cannot be written.
    """
    lock = FileLock(path)
    try:
        if not lock.wait(timeout_s) and (_read_holder(lock) or not lock.wait(_NAMING_S)):
            raise _describe_holder(lock, timeout_s)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = Holder(os.getpid(), os.uname().nodename, now, _name_program())
        lock.write_note(msgspec.json.encode(holder))
    except BaseException:
        lock.release()
        raise
    return lock


def _name_program() -> str:
    """Return what a person calls this process: the name of its script, or that it is a notebook."""
    if "ipykernel" in sys.modules:
        return _NOTEBOOK
    return Path((getattr(sys, "argv", None) or [""])[0]).name[:_MAX_PROGRAM].encode("utf-8", "replace").decode()


def _read_holder(lock: FileLock) -> Holder | None:
    try:
        return _decoder.decode(lock.read_note())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _describe_holder(lock: FileLock, timeout_s: float) -> LockedError:
    holder = _read_holder(lock)
    if holder is None:
        return lock.make_busy_error("another writer holds the stage; try again when it finishes", timeout_s)
    waited = f"has been writing since {holder.since} (waited {timeout_s:g} s)"
    if lock.is_taken_here:  # not by the process id: containers repeat it
        message = (
            f"this process itself {waited}: another of its handles holds the stage; close that one, or end its block"
        )
    elif holder.program == _NOTEBOOK:
        message = (
            f"a notebook (process {holder.pid} on {holder.host}) {waited}; close its handle there with `stock.close()`"
        )
    else:
        program = f" ({as_line(holder.program)[:_MAX_PROGRAM]})" if holder.program else ""
        message = (
            f"process {holder.pid}{program} on {holder.host} {waited}; try again when it finishes, or close its handle"
        )
    return LockedError(
        message,
        pid=holder.pid,
        host=holder.host,
        since=holder.since,
    )
