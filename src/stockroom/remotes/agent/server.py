"""The agent's process: serves clients of the same user, a thread for each, and ends after the last."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockroom.errors import AbsentDataError, AuthenticationError, StockroomError
from stockroom.files import give_to_owner
from stockroom.remotes.agent import protocol
from stockroom.remotes.agent.address import AGENT_DIRECTORY, LOCK_NAME, choose_socket_path, find_peer, open_address
from stockroom.remotes.agent.holder import VERSION, write_note
from stockroom.remotes.agent.protocol import (
    ConnectionLostError,
    Done,
    Drop,
    Failed,
    Fetch,
    Hint,
    NeedCredentials,
    Request,
    Use,
    Working,
)
from stockroom.remotes.mask import mask_secrets
from stockroom.remotes.transport.environment import RemoteEnvironment

if TYPE_CHECKING:
    from stockroom.remotes.agent.downloads import Downloads

IDLE_S: Final = 5.0
"""How long the agent stays after its last client leaves."""
_FIRST_CLIENT_S: Final = 10.0
_BACKLOG: Final = 512


def run_agent(state_directory: str, *, lock: int, ready: int) -> None:
    """Serve the repository with that folder until no client is left.

    `lock` is the agent's lock, which the caller holds. `ready` is a pipe that gets a byte once the agent listens.
    """
    folder = Path(state_directory)
    path = choose_socket_path(folder)
    listener = _listen(path)
    agent = _Agent(folder, listener)
    write_note(lock)
    with contextlib.suppress(BrokenPipeError):  # the process that started it did not wait
        os.write(ready, b".")
    os.close(ready)
    threading.Thread(target=agent.open_downloads, daemon=True).start()  # slow imports, while clients connect
    try:
        agent.serve()
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.close()
        os._exit(0)  # do not wait for downloads that no client waits for


def _listen(path: Path) -> socket.socket:
    for left in path.parent.glob("socket-*"):  # by agents that were killed: this one holds the lock
        with contextlib.suppress(OSError):
            left.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with open_address(path) as address:
            listener.bind(address)
    finally:
        os.umask(before)
    give_to_owner(path)
    listener.listen(_BACKLOG)
    return listener


class _Client:
    """A client, and the variables that its remotes are opened with."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.environment = RemoteEnvironment({})

    def receive(self) -> Request:
        """Return the next request, with the variables that come before it in use."""
        while isinstance(request := protocol.receive_request(self.connection), Use):
            self.environment = RemoteEnvironment(protocol.decode_variables(request))
        return request

    def send(self, answer: protocol.Answer) -> None:
        """Send an answer."""
        protocol.send(self.connection, answer)

    def ask_again(self) -> bool:
        """Ask for the client's variables as they are now, and use them. Return whether they have changed."""
        self.send(NeedCredentials())
        request, before = protocol.receive_request(self.connection), self.environment
        if not isinstance(request, Use):
            raise ConnectionLostError("expected credentials, found another request")
        self.environment = RemoteEnvironment(protocol.decode_variables(request))
        return self.environment != before


class _Agent:
    """The current clients, and the downloads they share."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._path = folder
        self._listener = listener
        self._clients = set[_Client]()
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
            client = _Client(connection)
            with self._counting:
                self._clients.add(client)
            threading.Thread(target=self._serve_client, args=(client,), daemon=True).start()

    def _is_idle(self) -> bool:
        with self._counting:
            return not self._clients and time.monotonic() - self._last_left_s > IDLE_S

    def _serve_client(self, client: _Client) -> None:
        try:
            with client.connection, contextlib.suppress(ConnectionLostError):
                client.send(protocol.Welcome(protocol.PROTOCOL, os.getpid(), VERSION))
                while True:
                    self._answer(client, client.receive())
        finally:
            with self._counting:
                self._clients.discard(client)
                self._last_left_s = time.monotonic()
                is_last = not self._clients
            if is_last and self._downloads is not None:
                self._downloads.drop_hints()

    def _answer(self, client: _Client, request: Request) -> None:
        try:
            done = self._do(client, request)
        except ConnectionLostError:
            raise
        except Exception as error:
            done = _describe(error, self._list_environments())
        if not isinstance(request, Hint):
            client.send(done)

    def _list_environments(self) -> set[RemoteEnvironment]:
        with self._counting:
            return {client.environment for client in self._clients}

    def _do(self, client: _Client, request: Request) -> Done | Failed:
        downloads = self.open_downloads()
        match request:
            case Fetch():
                _fetch(downloads, client, request)
            case Hint(wanted, goes_on):
                downloads.hint(protocol.parse_wanted(wanted), client.environment, goes_on=goes_on)
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


def _fetch(downloads: Downloads, client: _Client, request: Fetch) -> None:
    """Fetch what a client wants. If its credentials are refused, ask for newer ones and try again."""
    while True:
        try:
            return downloads.fetch(
                protocol.parse_wanted(request.wanted),
                client.environment,
                stall_s=request.stall_s,
                is_bulk=request.is_bulk,
                on_working=lambda nbytes, trouble: client.send(Working(nbytes, trouble)),
            )
        except AuthenticationError:
            if not client.ask_again():
                raise


def _is_same_user(connection: socket.socket) -> bool:
    peer = find_peer(connection)
    return peer is None or peer.uid in (os.getuid(), 0)  # without an answer: the socket's folder is closed to others


def _describe(error: Exception, environments: Collection[RemoteEnvironment]) -> Failed:
    """Return an error in wire form. An unexpected one is also logged, with its traceback and without secrets."""
    if isinstance(error, AbsentDataError):
        return Failed("AbsentDataError", str(error), error.remote, error.pack)
    if isinstance(error, StockroomError):
        return Failed(type(error).__name__, str(error))
    if isinstance(error, OSError):
        return Failed("StockroomError", f"cannot write fetched bytes: {error.strerror or error}; nothing was lost")
    sys.stderr.write(mask_secrets("".join(traceback.format_exception(error)), *environments))
    return Failed(
        "RemoteError", f"the fetch agent failed: {type(error).__name__}: {mask_secrets(str(error), *environments)}"
    )
