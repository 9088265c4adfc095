"""Finds and starts a repository's fetch agent. It is never started by forking this process.

At most one agent is started for a connection. The agent reports through a pipe that it listens; if the pipe ends
without a report, it has died.
"""

from __future__ import annotations

import os
import re
import select
import site
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from stockroom import errors
from stockroom.errors import RemoteError
from stockroom.files import give_to_owner
from stockroom.locks import FileLock
from stockroom.remotes.agent.address import AGENT_DIRECTORY, LOCK_NAME, LOG_NAME, choose_socket_path, open_address
from stockroom.remotes.agent.holder import describe_holder, describe_peer, find_other_version
from stockroom.remotes.agent.protocol import PROTOCOL, ConnectionLostError, SilenceError, Welcome, receive_answer
from stockroom.remotes.mask import mask_secrets

SILENCE_S: Final = 20.0
"""How long a living agent may be silent: while it works, it reports every half second."""
_STARTING_S: Final = 30.0
_LEAVING_S: Final = 10.0
"""How long an agent of another version is waited for. An idle one leaves after five seconds."""
_MAX_LOG_NBYTES: Final = 1 << 20
_LAST_LINE_NBYTES: Final = 4096
_PAUSES_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05)
_VARIABLES: Final = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|USER|LOGNAME|TMPDIR|VIRTUAL_ENV|PYTHON[A-Z]+|LD_LIBRARY_PATH|LD_PRELOAD"
    r"|DYLD_[A-Z_]+|SSL_CERT_FILE|SSL_CERT_DIR|COVERAGE_[A-Z_]+"
)
"""Variables that Python and the dynamic loader need. None of them holds a credential."""


class Started(NamedTuple):
    """A started agent: the pipe on which it writes a byte once it listens, and where its part of the log begins."""

    ready: int
    log_start: int


def connect(folder: Path) -> socket.socket:
    """Return a connection to the repository's agent, after its welcome. Start the agent if there is none.

    Raises:
        RemoteError: the agent does not start, or one of another version does not leave.
        TimeoutError: an agent is there and does not answer.
    """
    deadline_s, attempt, has_started, other = time.monotonic() + _STARTING_S, 0, False, None
    while True:
        connection = _try_to_connect(folder)
        if connection is not None:
            return connection
        started = _start_once(folder, has_started=has_started)
        if started is not None:
            has_started, deadline_s = True, time.monotonic() + _STARTING_S
            _wait_until_ready(folder, started)
            continue
        if other is None and (other := find_other_version(folder)) is not None:
            deadline_s = min(deadline_s, time.monotonic() + _LEAVING_S)
        if time.monotonic() > deadline_s:
            raise _make_busy_error(folder, other)
        time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
        attempt += 1


def start_agent(folder: Path) -> Started | None:
    """Start an agent; the caller closes the pipe in the answer.

    None if an agent is running, or another process is about to start one. The lock that keeps the agent unique is taken
    here and inherited. From that moment an agent is running.
    """
    directory = folder / AGENT_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    give_to_owner(directory)
    lock = FileLock(directory / LOCK_NAME, mode=0o600)
    try:
        if not lock.try_take():
            return None
        lock.write_note(b"")  # that of an agent that was killed
        return _spawn(folder, lock)
    finally:
        lock.leave()  # the agent still holds it


def make_silence_error(folder: Path, connection: socket.socket) -> errors.TimeoutError:
    """Return the error for an agent that is at the other end of a connection and does not answer."""
    who, pid = describe_peer(folder, connection)
    end = "" if pid is None else f": if it was stopped, continue it with `kill -CONT {pid}`, else `kill -9 {pid}`"
    return errors.TimeoutError(
        f"the fetch agent of {folder.parent}, {who}, has not answered for {connection.gettimeout():g} s{end}"
    )


def _try_to_connect(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(SILENCE_S)
        with open_address(choose_socket_path(folder)) as address:
            connection.connect(address)
        welcome = receive_answer(connection)
    except SilenceError:
        with closing(connection):
            raise make_silence_error(folder, connection) from None
    except (OSError, ConnectionLostError):
        connection.close()
        return None
    if not isinstance(welcome, Welcome) or welcome.protocol != PROTOCOL:
        connection.close()
        raise RemoteError(f"{choose_socket_path(folder)}: expected the fetch agent of this version, found another one")
    return connection


def _start_once(folder: Path, *, has_started: bool) -> Started | None:
    """Start an agent if none runs; raise if one was started already for this connection, and has ended since."""
    if not has_started:
        return start_agent(folder)
    with FileLock(folder / AGENT_DIRECTORY / LOCK_NAME, mode=0o600) as lock:
        if lock.try_take():
            raise _make_dead_error(folder, "ended soon after it had started", 0)
    return None


def _wait_until_ready(folder: Path, started: Started) -> None:
    try:
        poll = select.poll()  # `select` takes no file beyond the first 1024
        poll.register(started.ready, select.POLLIN)
        if not poll.poll(_STARTING_S * 1000):
            raise _make_busy_error(folder, None)
        if not os.read(started.ready, 1):
            raise _make_dead_error(folder, "did not start", started.log_start)
    finally:
        os.close(started.ready)


def _spawn(folder: Path, lock: FileLock) -> Started:
    log = folder / AGENT_DIRECTORY / LOG_NAME
    ready, report = os.pipe()
    try:
        with open(log, "ab", opener=_open_log) as stderr:
            give_to_owner(log)
            if os.fstat(stderr.fileno()).st_size > _MAX_LOG_NBYTES:
                stderr.truncate(0)
            log_start = os.fstat(stderr.fileno()).st_size
            process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-m", "stockroom.remotes.agent", *map(str, (folder.resolve(), lock.fileno(), report))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(lock.fileno(), report),
                start_new_session=True,
                cwd="/",
                env=_choose_variables(),
            )
        process.wait(_STARTING_S)  # it goes to the background first
    except subprocess.TimeoutExpired as error:
        os.close(ready)
        process.kill()
        process.wait()
        raise errors.TimeoutError(
            f"the fetch agent of {folder.parent} does not start: {sys.executable} has done nothing for "
            f"{_STARTING_S:g} s; try again when the machine is less busy, or see {log}"
        ) from error
    except BaseException as error:
        os.close(ready)
        if isinstance(error, OSError) and error.filename == sys.executable:
            raise RemoteError(f"the fetch agent cannot be started by {sys.executable}: {error.strerror}") from error
        raise
    finally:
        os.close(report)
    return Started(ready, log_start)


def _choose_variables() -> dict[str, str]:
    """Return the agent's environment: nothing of the user's, so that credentials come from its clients only."""
    chosen = {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}
    with suppress(KeyError, RuntimeError):  # no home folder
        chosen.setdefault("PYTHONUSERBASE", site.getuserbase())  # Python's own use of HOME, which is left out
    return chosen


def _open_log(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _make_dead_error(folder: Path, what: str, log_start: int) -> RemoteError:
    log = folder / AGENT_DIRECTORY / LOG_NAME
    try:
        with open(log, "rb", opener=_open_log) as file:
            file.seek(max(log_start, file.seek(0, os.SEEK_END) - _LAST_LINE_NBYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    said = f"the last line of its log: {mask_secrets(lines[-1])}" if lines else "it wrote nothing into its log"
    return RemoteError(f"the fetch agent of {folder.parent} {what}; {said} ({log})")


def _make_busy_error(folder: Path, other: str | None) -> RemoteError:
    if other is not None:
        return RemoteError(
            f"the fetch agent of {folder.parent} is {other} (expected {PROTOCOL}), and does not leave: close the "
            "programs that read this clone with that version of Stockroom, or end the agent"
        )
    directory = folder / AGENT_DIRECTORY
    return errors.TimeoutError(
        f"the fetch agent of {folder.parent} does not listen: {describe_holder(directory / LOCK_NAME)} holds its lock; "
        f"end that process, or see {directory / LOG_NAME}"
    )
