"""The agent's process: serves clients of the same user, a thread for each, and ends after the last."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockroom.errors import AbsentDataError, StockroomError
from stockroom.remotes.agent import protocol
from stockroom.remotes.agent.protocol import ConnectionLostError, Done, Drop, Failed, Fetch, Hint, Request, Working
from stockroom.remotes.agent.starting import AGENT_DIRECTORY, LOCK_NAME, choose_socket_path

if TYPE_CHECKING:
    from stockroom.remotes.agent.downloads import Downloads

IDLE_S: Final = 5.0
"""How long the agent stays after its last client leaves."""
_FIRST_CLIENT_S: Final = 10.0
_BACKLOG: Final = 512


def run_agent(state_directory: str) -> None:
    """Serve the repository with that folder until no client is left. The caller holds the agent's lock."""
    folder = Path(state_directory)
    path = choose_socket_path(folder)
    listener = _listen(path)
    agent = _Agent(folder, listener)
    threading.Thread(target=agent.open_downloads, daemon=True).start()  # slow imports, while clients connect
    try:
        agent.serve()
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.close()
        os._exit(0)  # do not wait for downloads that no client waits for


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # left by an agent that was killed: this one holds the lock
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener


class _Agent:
    """The current clients, and the downloads they share."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._path = folder
        self._listener = listener
        self._clients = 0
        self._counting = threading.Lock()
        self._last_left_s = time.monotonic() + _FIRST_CLIENT_S - IDLE_S
        self._downloads: Downloads | None = None
        self._opening = threading.Lock()

    def serve(self) -> None:
        """Serve clients until there has been none for a while, or the repository is gone."""
        self._listener.settimeout(0.5)
        while not self._is_idle() and (self._path / AGENT_DIRECTORY / LOCK_NAME).exists():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            if not _is_same_user(connection):
                connection.close()
                continue
            with self._counting:
                self._clients += 1
            threading.Thread(target=self._serve_client, args=(connection,), daemon=True).start()

    def _is_idle(self) -> bool:
        with self._counting:
            return not self._clients and time.monotonic() - self._last_left_s > IDLE_S

    def _serve_client(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(ConnectionLostError):
                protocol.send(connection, protocol.Welcome(protocol.PROTOCOL, os.getpid()))
                while True:
                    self._answer(connection, protocol.receive_request(connection))
        finally:
            with self._counting:
                self._clients -= 1
                self._last_left_s = time.monotonic()
                is_last = not self._clients
            if is_last and self._downloads is not None:
                self._downloads.drop_hints()

    def _answer(self, connection: socket.socket, request: Request) -> None:
        try:
            done = self._do(connection, request)
        except ConnectionLostError:
            raise
        except Exception as error:
            done = _describe(error)
        if not isinstance(request, Hint):
            protocol.send(connection, done)

    def _do(self, connection: socket.socket, request: Request) -> Done | Failed:
        downloads = self.open_downloads()
        match request:
            case Fetch(wanted, stall_s, is_bulk):
                downloads.fetch(
                    protocol.parse_wanted(wanted),
                    stall_s=stall_s,
                    is_bulk=is_bulk,
                    on_working=lambda nbytes, trouble: protocol.send(connection, Working(nbytes, trouble)),
                )
            case Hint(wanted, goes_on):
                downloads.hint(protocol.parse_wanted(wanted), goes_on=goes_on)
            case Drop(packs):
                self._drop(downloads, packs)
        return Done(downloads.figures.requests, downloads.figures.nbytes)

    def _drop(self, downloads: Downloads, packs: list[bytes]) -> None:
        from stockroom.digest import PackDigest
        from stockroom.store.pack.sparse_pack import hollow_out

        for digest in map(PackDigest, packs):
            downloads.replace(digest, lambda digest=digest: hollow_out(self._path, digest))  # type: ignore[misc]
        gc.collect()  # past errors may hold maps of dropped packs, and with them disk space

    def open_downloads(self) -> Downloads:
        """Return the downloads, created on first use: a client is welcomed before the slow imports."""
        with self._opening:
            if self._downloads is None:
                from stockroom.remotes.agent.downloads import Downloads
                from stockroom.remotes.agent.open_remotes import OpenRemotes

                remotes = OpenRemotes(self._path)
                self._downloads = Downloads(self._path / "packs", remotes.list_for)
            return self._downloads


def _is_same_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's folder is closed to others
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", found)[1] in (os.getuid(), 0)


def _describe(error: Exception) -> Failed:
    """Return an error in wire form. An unexpected one is also logged with its traceback."""
    if isinstance(error, AbsentDataError):
        return Failed("AbsentDataError", str(error), error.remote, error.pack)
    if isinstance(error, StockroomError):
        return Failed(type(error).__name__, str(error))
    if isinstance(error, OSError):
        return Failed("StockroomError", f"cannot write what was fetched: {error.strerror or error}; nothing was lost")
    sys.excepthook(type(error), error, error.__traceback__)
    return Failed("RemoteError", f"the fetch agent failed: {type(error).__name__}: {error}")
