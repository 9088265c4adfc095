"""The reader's side: what a tensor store asks for goes to the repository's fetch agent.

Safe under threads (each request has a connection to itself) and fork (a child makes its own).
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
from stockroom.remotes.agent.protocol import (
    ConnectionLostError,
    Done,
    Drop,
    Failed,
    Fetch,
    Hint,
    Measure,
    OnWorking,
    Working,
)
from stockroom.remotes.agent.starting import AGENT_DIRECTORY, LOG_NAME, connect, start_agent
from stockroom.store.fetcher import Wanted

TIMEOUT_VARIABLE: Final = "STOCKROOM_FETCH_TIMEOUT"
DEFAULT_STALL_S: Final = 120.0
_LIVES: Final = 2


class AgentFetcher:
    """Asks the fetch agent of the repository whose state folder is `state`. Connects when it is first needed.

    `find_timeout_s` gives the repository's own setting of how long a read waits, or None.
    """

    def __init__(
        self, state: Path, *, has_remotes: Callable[[], bool], find_timeout_s: Callable[[], float | None] = lambda: None
    ) -> None:
        self._state = state
        self._has_remotes = has_remotes
        self._find_timeout_s = find_timeout_s
        self._idle: list[socket.socket] = []
        self._pid = os.getpid()

    @property
    def why(self) -> str:
        """Why units may be absent in spite of it."""
        if not self._has_remotes():
            return "no remote is configured that could give them: `stock remote add origin URL` names one"
        return "no remote gave them"

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Return once units are present; empty `units` are all of a pack. Without a remote they stay absent.

        Raises:
            AbsentDataError, CorruptionError, RemoteError: as the agent met them.
            TimeoutError: nothing arrived for `STOCKROOM_FETCH_TIMEOUT` seconds, or those of the setting `fetch.timeout`
                (120 unless set).
        """
        self._fetch(wanted, None, is_bulk=is_bulk)

    def fetch_packs(self, packs: Sequence[PackDigest], on_working: OnWorking | None = None) -> None:
        """Return once these packs are whole; readers go first."""
        self._fetch([(digest, np.empty(0, np.int64)) for digest in packs], on_working, is_bulk=True)

    def drop(self, packs: Sequence[PackDigest]) -> None:
        """Give back the disk that packs take. The caller has made sure that a remote holds them, whole."""
        self._ask(Drop(list(packs)))

    def measure(self) -> Done:
        """What the agent has asked of remotes since it started."""
        return self._ask(Measure())

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Say that units will be wanted soon; nothing more comes of it if the agent cannot be had."""
        if not self._has_remotes():
            return
        try:
            connection = self._borrow()
            try:
                protocol.send(connection, Hint(protocol.pack_wanted(wanted), goes_on))
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
        except (ConnectionLostError, StockroomError, OSError):
            pass

    def start(self) -> None:
        """Have the agent start before it is needed, if it can be had; not waited for."""
        with suppress(StockroomError, OSError):
            if self._has_remotes():
                start_agent(self._state)

    def close(self) -> None:
        """Leave the agent, which then ends if nobody else needs it."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _fetch(self, wanted: Wanted, on_working: OnWorking | None, *, is_bulk: bool) -> None:
        if self._has_remotes():
            self._ask(Fetch(protocol.pack_wanted(wanted), read_stall_s(self._find_timeout_s()), is_bulk), on_working)

    def _ask(self, request: protocol.Request, on_working: OnWorking | None = None) -> Done:
        """The agent's answer; should it die meanwhile, another one is asked, once."""
        cause: Exception | None = None
        for _ in range(_LIVES):
            connection = self._borrow()
            try:
                answer = _converse(connection, request, on_working)
            except ConnectionLostError as error:
                connection.close()
                self.close()
                cause = error
            except BaseException:  # an interrupt: an answer is still to come on this connection
                connection.close()
                raise
            else:
                self._idle.append(connection)
                return _take(answer)
        raise UnreachableError(
            f"the fetch agent of {self._state.parent} ended twice while it worked ({cause}); its last words are in "
            f"{self._state / AGENT_DIRECTORY / LOG_NAME}"
        )

    def _borrow(self) -> socket.socket:
        """A connection that nobody else uses; those inherited by a fork are the parent's."""
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return connect(self._state)
        except OSError as error:
            raise AbsentDataError(
                f"{self._state}: nothing can be fetched into it, since this user may not write there ({error.strerror})"
            ) from error


def read_stall_s(configured_s: float | None = None) -> float:
    """How long a read may wait while nothing arrives, in seconds: as the environment says, else as configured."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        stall_s = float(text) if text else configured_s or DEFAULT_STALL_S
    except ValueError:
        stall_s = -1.0
    if not 0 < stall_s < 1e6:
        raise InvalidInputError(f"{TIMEOUT_VARIABLE}: expected seconds above 0, found {text!r}")
    return stall_s


def _converse(connection: socket.socket, request: protocol.Request, on_working: OnWorking | None) -> Done | Failed:
    protocol.send(connection, request)
    while True:
        answer = protocol.receive_answer(connection)
        if isinstance(answer, Working):
            if on_working is not None:
                on_working(answer.nbytes, answer.trouble)
        elif isinstance(answer, Done | Failed):
            return answer
        else:
            raise ConnectionLostError("an unexpected answer")


def _take(answer: Done | Failed) -> Done:
    if isinstance(answer, Failed):
        raise _make_error(answer)
    return answer


def _make_error(failed: Failed) -> StockroomError:
    """The error that the agent met, as its class here."""
    if failed.kind == "AbsentDataError":
        return AbsentDataError(failed.message, remote=failed.remote, pack=failed.pack)
    kind = getattr(errors, failed.kind, RemoteError)
    if kind is errors.DigestMismatchError or not (isinstance(kind, type) and issubclass(kind, StockroomError)):
        kind = errors.CorruptionError if failed.kind == "DigestMismatchError" else RemoteError
    return kind(failed.message)
