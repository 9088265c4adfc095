"""The writer's lease: one writer per stage, held by an flock that the system frees when its holder dies.

The lock file also says who holds it, for messages. A forked child drops what it inherited, so a lease never
outlives its owner through a worker process.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stockroom.errors import LockedError
from stockroom.store.pack.place_lock import open_lock_file

_POLL_S = 0.02
_NAMING_S = 0.25
"""How long a new holder may take to write its name."""
_MAX_NBYTES = 4096


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease: process id, host name, and when it was taken (ISO 8601, UTC)."""

    pid: int
    host: str
    since: str


_decoder = msgspec.json.Decoder(Holder)


class WriterLease:
    """A lease held by this process until `release`, its death, or an exception that unwinds past its owner."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this very process holds it."""
        return self._fd >= 0 and self._pid == os.getpid()

    def release(self) -> None:
        """Let the next writer in; harmless when repeated, and in a forked child."""
        if self.is_held:
            os.ftruncate(self._fd, 0)
            self._close()

    def __del__(self) -> None:
        self._close()  # a writer that nobody holds on to any more keeps nobody out

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1  # first: an interrupt must not lead to closing another's file
            os.close(fd)


def acquire_lease(path: Path, *, timeout_s: float) -> WriterLease:
    """The lease whose lock file is `path`, waiting up to `timeout_s`; then `LockedError` naming the holder.

    `ReadOnlyError` where the file cannot be written.
    """
    fd = open_lock_file(path)
    deadline = time.monotonic() + timeout_s
    try:
        while not _try_lock(fd):
            late_s = time.monotonic() - deadline
            holder = _read_holder(fd) if late_s >= 0 else None
            if holder is not None or late_s >= _NAMING_S:
                raise _describe_holder(holder, timeout_s)
            time.sleep(min(_POLL_S, abs(late_s)))
        _write_holder(fd)
    except BaseException:
        os.close(fd)
        raise
    return WriterLease(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(fd: int) -> None:
    holder = Holder(os.getpid(), os.uname().nodename, datetime.now(UTC).isoformat(timespec="seconds"))
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(holder), 0)


def _read_holder(fd: int) -> Holder | None:
    try:
        return _decoder.decode(os.pread(fd, _MAX_NBYTES, 0))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _describe_holder(holder: Holder | None, timeout_s: float) -> LockedError:
    if holder is None:
        return LockedError(f"another writer holds the stage (waited {timeout_s:g} s); try again when it has finished")
    return LockedError(
        f"process {holder.pid} on {holder.host} has been writing since {holder.since} (waited {timeout_s:g} s); "
        "try again when it has finished, or end it",
        pid=holder.pid,
        host=holder.host,
        since=holder.since,
    )


_held: weakref.WeakSet[Any] = weakref.WeakSet()


def _drop_inherited() -> None:
    for lease in list(_held):
        lease._close()


os.register_at_fork(after_in_child=_drop_inherited)
