"""The address of the socket on which a repository's agent listens, and the process at its other end.

The socket is in the repository's folder. An address is limited to about 100 bytes and the path of the socket is not,
so a longer path is addressed through a short one that names the same file.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from stockroom.remotes.agent.protocol import PROTOCOL

AGENT_DIRECTORY: Final = "agent"
LOCK_NAME: Final = "lock"
LOG_NAME: Final = "log"
_MAX_ADDRESS_NBYTES: Final = 100
_OPEN_FOLDERS: Final = Path("/proc/self/fd")
_LOCAL_PEERCRED: Final = 1
_LOCAL_PEERPID: Final = 2


class Peer(NamedTuple):
    """The process that listens on a socket, or that connected to it."""

    pid: int
    uid: int


def choose_socket_path(stockroom_folder: Path, protocol: int = PROTOCOL) -> Path:
    """Return the path of the socket on which a repository's agent listens."""
    return stockroom_folder.resolve() / AGENT_DIRECTORY / f"socket-{protocol}"


@contextmanager
def open_address(path: Path) -> Iterator[str]:
    """Yield an address for the socket at `path`, valid within the block. Its folder must exist."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_NBYTES:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if (_OPEN_FOLDERS / str(fd)).exists():
            yield f"{_OPEN_FOLDERS}/{fd}/{path.name}"
        else:
            with _link_to(path.parent) as link:
                yield f"{link}/{path.name}"
    finally:
        os.close(fd)


@contextmanager
def _link_to(folder: Path) -> Iterator[str]:
    """Yield a short link to a folder, in a private folder that exists for the block only."""
    is_short = len(os.fsencode(tempfile.gettempdir())) < _MAX_ADDRESS_NBYTES // 2
    private = tempfile.mkdtemp(prefix="stock-", dir=None if is_short else "/tmp")  # noqa: S108 - mkdtemp closes it
    try:
        link = Path(private, "to")
        link.symlink_to(folder)
        yield str(link)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def find_peer(connection: socket.socket) -> Peer | None:
    """Return the process at the other end of a connection, or None if the system does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", found)
        return Peer(pid, uid)
    if sys.platform == "darwin":
        _, uid = struct.unpack("2I", connection.getsockopt(0, _LOCAL_PEERCRED, 76)[:8])
        (pid,) = struct.unpack("i", connection.getsockopt(0, _LOCAL_PEERPID, 4))
        return Peer(pid, uid)
    return None
