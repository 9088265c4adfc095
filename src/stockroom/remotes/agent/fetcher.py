"""The reader's side of the fetch agent: forwards the requests of a tensor store to it.

Safe under threads (each request has its own connection) and fork (a child opens its own).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from stockroom import errors
from stockroom.digest import PackDigest
from stockroom.errors import AbsentDataError, InvalidInputError, RemoteError, StockroomError, UnreachableError
from stockroom.remotes.agent import protocol
from stockroom.remotes.agent.address import AGENT_DIRECTORY, LOG_NAME, find_peer
from stockroom.remotes.agent.protocol import (
    ConnectionLostError,
    Done,
    Failed,
    NeedCredentials,
    OnWorking,
    SilenceError,
    Working,
)
from stockroom.remotes.agent.starting import connect, make_silence_error, start_agent
from stockroom.remotes.transport.environment import RemoteEnvironment, read_environment
from stockroom.store.fetcher import Wanted

TIMEOUT_VARIABLE: Final = "STOCKROOM_FETCH_TIMEOUT"
DEFAULT_STALL_S: Final = 120.0
_LIVES: Final = 2


class _Connection:
    """A connection to the agent, which gets this process's variables before the first request that needs them."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        peer = find_peer(connected)
        self._is_own = peer is not None and peer.uid == os.getuid()
        self._told: RemoteEnvironment | None = None

    def send(self, request: protocol.Request) -> None:
        """Send a request, after the variables if the agent does not have them as they are now."""
        environment = self._read_environment()
        if environment != self._told:
            self._tell(environment)
        protocol.send(self.socket, request)

    def ask(self, request: protocol.Request, on_working: OnWorking | None) -> Done | Failed:
        """Send a request and return its answer. Send the variables again whenever the agent asks for them."""
        self.send(request)
        while True:
            answer = protocol.receive_answer(self.socket)
            if isinstance(answer, Working):
                if on_working is not None:
                    on_working(answer.nbytes, answer.trouble)
            elif isinstance(answer, NeedCredentials):
                self._tell(self._read_environment())
            elif isinstance(answer, Done | Failed):
                return answer
            else:
                raise ConnectionLostError("unexpected answer")

    def close(self) -> None:
        """Disconnect."""
        self.socket.close()

    def _tell(self, environment: RemoteEnvironment) -> None:
        protocol.send(self.socket, protocol.encode_variables(environment))
        self._told = environment

    def _read_environment(self) -> RemoteEnvironment:
        """Return the variables for the agent. One of another user gets none."""
        return read_environment() if self._is_own else RemoteEnvironment({})


class AgentFetcher:
    """Asks the fetch agent of the repository whose folder is `folder`. Connects on first use.

    `find_timeout_s` returns the repository's own setting of how long a read waits, or None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        has_remotes: Callable[[], bool],
        find_timeout_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._path = folder
        self._has_remotes = has_remotes
        self._find_timeout_s = find_timeout_s
        self._idle: list[_Connection] = []
        self._pid = os.getpid()

    @property
    def why(self) -> str:
        """The reason that units may be absent despite this fetcher."""
        if not self._has_remotes():
            return "no remote is configured to fetch them from: `stock remote add origin URL` adds one"
        return "no remote has them"

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False, on_working: OnWorking | None = None) -> None:
        """Return once units are present. Empty `units` mean the whole pack. Without a remote, units stay absent.

        Raises:
            AbsentDataError, CorruptionError, RemoteError: as the agent raised them.
            TimeoutError: nothing arrived for `STOCKROOM_FETCH_TIMEOUT` seconds, else the setting `fetch.timeout`, else
                120.
        """
        if self._has_remotes():
            stall_s = read_stall_s(self._find_timeout_s())
            self._ask(protocol.Fetch(protocol.pack_wanted(wanted), stall_s, is_bulk), on_working)

    def fetch_packs(self, packs: Sequence[PackDigest], on_working: OnWorking | None = None) -> None:
        """Return once these packs are whole. Readers go first."""
        self.fetch([(digest, np.empty(0, np.int64)) for digest in packs], is_bulk=True, on_working=on_working)

    def drop(self, packs: Sequence[PackDigest]) -> None:
        """Free the disk space of packs. The caller has made sure that a remote holds them whole."""
        self._ask(protocol.Drop(list(packs)))

    def measure(self) -> Done:
        """Return the agent's counts of requests to remotes since it started."""
        return self._ask(protocol.Measure())

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Tell the agent that units will be wanted soon. Does nothing if the agent is unavailable."""
        if not self._has_remotes():
            return
        with suppress(ConnectionLostError, StockroomError, OSError):
            connection = self._borrow()
            try:
                connection.send(protocol.Hint(protocol.pack_wanted(wanted), goes_on))
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)

    def start(self) -> None:
        """Start the agent ahead of need if there is a remote. Does not wait, and ignores failures."""
        with suppress(StockroomError, OSError):
            if self._has_remotes() and (started := start_agent(self._path)) is not None:
                os.close(started.ready)

    def close(self) -> None:
        """Disconnect from the agent, which ends once it has no clients."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _ask(self, request: protocol.Request, on_working: OnWorking | None = None) -> Done:
        """Return the agent's answer. If the agent dies or falls silent meanwhile, ask again, once."""
        for _ in range(_LIVES):
            connection = self._borrow()
            try:
                answer = connection.ask(request, on_working)
            except ConnectionLostError as error:
                failure = self._explain(error, connection)
                connection.close()
                self.close()
            except BaseException:  # an interrupt: the answer is still to come on this connection
                connection.close()
                raise
            else:
                self._idle.append(connection)
                if isinstance(answer, Failed):
                    raise _make_error(answer)
                return answer
        raise failure

    def _explain(self, error: ConnectionLostError, connection: _Connection) -> RemoteError:
        if isinstance(error, SilenceError):
            return make_silence_error(self._path, connection.socket)
        return UnreachableError(
            f"the fetch agent of {self._path.parent} died twice during a request ({error}); see its log "
            f"{self._path / AGENT_DIRECTORY / LOG_NAME}"
        )

    def _borrow(self) -> _Connection:
        """Return a connection that no other request uses. Connections inherited by a fork belong to the parent."""
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        with suppress(IndexError):
            return self._idle.pop()
        try:
            return _Connection(connect(self._path))
        except OSError as error:
            raise AbsentDataError(
                f"{self._path}: cannot fetch into it, since this user may not write there ({error.strerror})"
            ) from error


def read_stall_s(configured_s: float | None = None) -> float:
    """Return how long a read may wait while nothing arrives, in seconds: from the environment, else as configured."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        stall_s = float(text) if text else configured_s or DEFAULT_STALL_S
    except ValueError:
        stall_s = -1.0
    if not 0 < stall_s < 1e6:
        raise InvalidInputError(f"{TIMEOUT_VARIABLE}: expected a positive number of seconds, found {text!r}")
    return stall_s


def _make_error(failed: Failed) -> StockroomError:
    """Return the agent's error as an error of its class here."""
    if failed.kind == "AbsentDataError":
        return AbsentDataError(failed.message, remote=failed.remote, pack=failed.pack)
    kind = getattr(errors, failed.kind, RemoteError)
    if kind is errors.DigestMismatchError or not (isinstance(kind, type) and issubclass(kind, StockroomError)):
        kind = errors.CorruptionError if failed.kind == "DigestMismatchError" else RemoteError
    return kind(failed.message)
