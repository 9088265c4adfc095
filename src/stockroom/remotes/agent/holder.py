"""Who an agent is: its process, its version and its start, for errors about one that does not serve.

An agent writes a note about itself into its lock file. It decides nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from stockroom.locks import FileLock
from stockroom.remotes.agent.address import AGENT_DIRECTORY, LOCK_NAME, choose_socket_path, find_peer, open_address
from stockroom.remotes.agent.protocol import ConnectionLostError, SilenceError, Welcome, receive_answer

VERSION: Final[str] = sys.modules["stockroom"].__version__
"""The version of Stockroom: the package itself imports everything, so nothing here imports it."""
_ASK_S: Final = 2.0


class AgentNote(msgspec.Struct, frozen=True):
    """The process that holds the agent's lock."""

    pid: int
    version: str = ""
    since: str = ""

    def describe(self) -> str:
        """Return the process in words."""
        since = self.since or _read_start(self.pid)
        known = [self.version and f"Stockroom {self.version}", since and f"since {since}"]
        return " ".join([f"process {self.pid}", *([f"({', '.join(filter(None, known))})"] if any(known) else [])])


def write_note(lock: int) -> None:
    """Write the note of this process into the lock file that is open as `lock`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = msgspec.json.encode(AgentNote(os.getpid(), VERSION, now))
    with suppress(OSError):  # another user's file, which is open for reading only
        os.ftruncate(lock, 0)
        os.pwrite(lock, note, 0)


def describe_holder(lock_path: Path) -> str:
    """Return in words who holds the lock, as far as is known."""
    with suppress(OSError), FileLock(lock_path, must_exist=True) as lock:
        with suppress(msgspec.MsgspecError):
            holder = msgspec.json.decode(lock.read_note(), type=AgentNote)
            if _is_alive(holder.pid):  # else its note is left from before
                return holder.describe()
        pid = lock.find_holder()
        if pid not in (None, os.getpid()):  # the system names the process that took the lock for the agent
            return AgentNote(pid).describe()
    return "another process"


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # that of a zombie, which has ended
    return True


def describe_peer(folder: Path, connection: socket.socket) -> tuple[str, int | None]:
    """Return in words which agent is at the other end of a connection, and its process id if that is known."""
    peer = find_peer(connection)
    who = describe_holder(folder / AGENT_DIRECTORY / LOCK_NAME)
    if peer is None or peer.pid <= 0:  # a process that is not in this container
        return who, None
    if f"{who} ".startswith(f"process {peer.pid} "):
        return who, peer.pid
    return AgentNote(peer.pid).describe(), peer.pid


def find_other_version(folder: Path) -> str | None:
    """Return in words the agent of another protocol that serves the repository, or None if there is none."""
    own = choose_socket_path(folder)
    others = (path for path in own.parent.glob("socket-*") if path.name != own.name)
    return next(filter(None, map(_describe_other, others)), None)


def _describe_other(path: Path) -> str | None:
    """Return in words the agent behind the socket of another protocol; None if there is none."""
    protocol = path.name.removeprefix("socket-")
    with suppress(OSError, ConnectionLostError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ASK_S)
        with open_address(path) as address:
            connection.connect(address)
        try:
            welcome = receive_answer(connection)
        except SilenceError:
            peer = find_peer(connection)
            return f"{AgentNote(peer.pid if peer else 0).describe()}, of protocol {protocol}, which does not answer"
        if isinstance(welcome, Welcome):
            return f"{AgentNote(welcome.pid, welcome.version).describe()}, of protocol {protocol}"
    return None


def _read_start(pid: int) -> str:
    """Return when a process started, in UTC; empty if the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot_s = next(int(s.split()[1]) for s in Path("/proc/stat").read_text().splitlines() if s.startswith("btime"))
        start_s = boot_s + ticks / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(start_s, UTC).isoformat(timespec="seconds")
    return ""
