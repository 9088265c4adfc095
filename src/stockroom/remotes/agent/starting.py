"""Finds and starts a repository's fetch agent. It is never started by forking this process.

The socket is in the repository's folder. If its path would be too long for a socket, it is in a folder of the
user's own under the system's temporary folder. Only the owner has access to either.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from stockroom.errors import RemoteError
from stockroom.locks import FileLock
from stockroom.remotes.agent.protocol import PROTOCOL, ConnectionLostError, Welcome, receive_answer

AGENT_DIRECTORY: Final = "agent"
LOCK_NAME: Final = "lock"
LOG_NAME: Final = "log"
SILENCE_S: Final = 20.0
"""How long a living agent may be silent: while it works, it reports every half second."""
_STARTING_S: Final = 30.0
_MAX_SOCKET_PATH_NBYTES: Final = 100
_MAX_LOG_NBYTES: Final = 1 << 20
_PAUSES_S: Final = (0.002, 0.005, 0.01, 0.02)


def choose_socket_path(stockroom_folder: Path) -> Path:
    """Return the path of the socket on which a repository's agent listens."""
    path = stockroom_folder.resolve() / AGENT_DIRECTORY / f"socket-{PROTOCOL}"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_NBYTES:
        return path
    folder = Path(tempfile.gettempdir()) / f"stockroom-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise RemoteError(f"{folder}: expected a folder of this user's own, closed to others; remove it")
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    return folder / f"{name}-{PROTOCOL}"


def connect(folder: Path) -> socket.socket:
    """Return a connection to the repository's agent, after its welcome. Start the agent if there is none.

    Raises:
        RemoteError: the agent does not start, or is of another version.
    """
    deadline_s = time.monotonic() + _STARTING_S
    path, attempt = choose_socket_path(folder), 0
    while True:
        connection = _try_to_connect(path)
        if connection is not None:
            return connection
        if time.monotonic() > deadline_s:
            raise RemoteError(
                f"the fetch agent does not start; its last words are in {folder / AGENT_DIRECTORY / LOG_NAME}"
            )
        start_agent(folder)
        time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
        attempt += 1


def _try_to_connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(SILENCE_S)
        connection.connect(str(path))
        welcome = receive_answer(connection)
    except (OSError, ConnectionLostError):
        connection.close()
        return None
    if not isinstance(welcome, Welcome) or welcome.protocol != PROTOCOL:
        connection.close()
        raise RemoteError(f"{path}: the fetch agent there is of another version of Stockroom; end it, or wait 10 s")
    return connection


def _open_log(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def start_agent(folder: Path) -> None:
    """Start an agent, unless one is running or another process is about to start one. Returns before it listens.

    The lock that keeps the agent unique is taken here and inherited. From that moment an agent is running.
    """
    directory = folder / AGENT_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(directory / LOCK_NAME, mode=0o600)
    try:
        if not lock.try_take():
            return
        with open(directory / LOG_NAME, "ab", opener=_open_log) as stderr:
            if os.fstat(stderr.fileno()).st_size > _MAX_LOG_NBYTES:
                stderr.truncate(0)
            process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-m", "stockroom.remotes.agent", str(folder.resolve()), str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        process.wait()  # it goes to the background first
    finally:
        lock.leave()  # the agent still holds it
