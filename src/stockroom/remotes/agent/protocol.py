"""Messages between a reader and the fetch agent: msgpack behind a length, over a local socket.

    offset  size  type     field
    0       4     u32 LE   length of the message
    4       ...   msgpack  the message, an array that begins with its name

The agent sends `Welcome` first, in every version. Then the client sends one request at a time and reads until its
answer. Any number of `Working` and `NeedCredentials` may come before the answer; the client answers each
`NeedCredentials` with `Use`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest

if TYPE_CHECKING:
    from stockroom.store.fetcher import Wanted

T = TypeVar("T")
PROTOCOL: Final = 3
MAX_MESSAGE_NBYTES: Final = 64 << 20
_LENGTH: Final = struct.Struct("<I")

Runs: TypeAlias = tuple[bytes, bytes]
"""A pack's digest, and its units as runs: first and one past the last of each, i64 LE. Empty means all units."""


class Welcome(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The agent's first message: its protocol version, process id and version of Stockroom."""

    protocol: int
    pid: int
    version: str = ""


class Use(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The client's variables that its remotes read, for its requests from now on. There is no answer."""

    variables: dict[bytes, bytes]

    def __repr__(self) -> str:  # their values are secret
        return f"Use of {len(self.variables)} variables"


class Fetch(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Make units present; fail if nothing arrives for `stall_s`. Readers go before bulk transfers."""

    wanted: list[Runs]
    stall_s: float
    is_bulk: bool = False


class Hint(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Units will be wanted soon. If it `goes_on`, so will the units that follow them. There is no answer."""

    wanted: list[Runs]
    goes_on: bool = False


class Drop(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Free the disk space of packs. The client has made sure that a remote holds them."""

    packs: list[bytes]


class Measure(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Report the requests made of remotes so far."""


class Working(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The request is in progress: bytes done so far, and the cause of a delay, if any."""

    nbytes: int
    trouble: str | None


class NeedCredentials(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A remote refused the client's credentials: send them as they are now."""


OnWorking: TypeAlias = Callable[[int, "str | None"], None]
"""Called repeatedly with the fields of `Working`."""


class Done(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The request is done. `requests` and `nbytes` count all requests to remotes since the agent started."""

    requests: int = 0
    nbytes: int = 0


class Failed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The request failed with an error of the class named `kind`."""

    kind: str
    message: str
    remote: str | None = None
    pack: str = ""


Request: TypeAlias = Use | Fetch | Hint | Drop | Measure
Answer: TypeAlias = Welcome | Working | NeedCredentials | Done | Failed

_encode: Final = msgspec.msgpack.Encoder().encode
_requests: Final = msgspec.msgpack.Decoder[Request](Request)
_answers: Final = msgspec.msgpack.Decoder[Answer](Answer)


class ConnectionLostError(Exception):
    """The other side is gone, or does not speak this protocol."""


class SilenceError(ConnectionLostError):
    """The other side has sent nothing for the socket's time limit."""


def send(connection: socket.socket, message: Request | Answer) -> None:
    """Send one message. Raises `ConnectionLostError` if the other side is gone."""
    body = _encode(message)
    try:
        connection.sendall(_LENGTH.pack(len(body)) + body)
    except OSError as error:
        raise ConnectionLostError(str(error)) from error


def receive_request(connection: socket.socket) -> Request:
    """Return the next request. Raises `ConnectionLostError` if the connection ends."""
    return _decode(_requests, _receive(connection), "request")


def receive_answer(connection: socket.socket) -> Answer:
    """Return the next answer.

    Raises `SilenceError` after the socket's time limit, and `ConnectionLostError` if the connection ends.
    """
    return _decode(_answers, _receive(connection), "answer")


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes, what: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConnectionLostError(f"malformed {what}: {error}") from error


def encode_variables(variables: Mapping[str, str]) -> Use:
    """Return the message with a client's variables, which need not be UTF-8."""
    return Use({os.fsencode(name): os.fsencode(value) for name, value in variables.items()})


def decode_variables(message: Use) -> dict[str, str]:
    """Return the variables in a message."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in message.variables.items()}


def pack_wanted(wanted: Wanted) -> list[Runs]:
    """Encode units of packs for the wire."""
    return [(digest, _split_runs(units).astype("<i8").tobytes()) for digest, units in wanted]


def parse_wanted(runs: Sequence[Runs], *, max_units: int = 1 << 24) -> list[tuple[PackDigest, NDArray[np.int64]]]:
    """Decode the output of `pack_wanted`. Raises `ConnectionLostError` if it is malformed."""
    return [(PackDigest(digest), _expand_runs(data, max_units)) for digest, data in runs]


def _split_runs(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `(runs, 2)`: first and one past the last of each run of adjacent units, from sorted `units`."""
    if not len(units):
        return np.empty((0, 2), np.int64)
    cuts = np.flatnonzero(np.diff(units) != 1) + 1
    first = np.concatenate([units[:1], units[cuts]])
    last = np.concatenate([units[cuts - 1], units[-1:]])
    return np.stack([first, last + 1], axis=1)


def _expand_runs(data: bytes, max_units: int) -> NDArray[np.int64]:
    if len(data) % 16:
        raise ConnectionLostError("truncated units")
    runs = np.frombuffer(data, "<i8").reshape(-1, 2)
    lengths = runs[:, 1] - runs[:, 0]
    if len(runs) and (int(runs.min()) < 0 or int(lengths.min()) <= 0 or float(lengths.astype(float).sum()) > max_units):
        raise ConnectionLostError("units out of range")
    return np.concatenate([np.arange(a, b) for a, b in runs.tolist()] or [np.empty(0, np.int64)])


def _receive(connection: socket.socket) -> bytes:
    (nbytes,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    if nbytes > MAX_MESSAGE_NBYTES:
        raise ConnectionLostError(f"message of {nbytes} bytes is too long")
    return _receive_exactly(connection, nbytes)


def _receive_exactly(connection: socket.socket, nbytes: int) -> bytes:
    parts = bytearray()
    while len(parts) < nbytes:
        try:
            part = connection.recv(min(nbytes - len(parts), 1 << 20))
        except TimeoutError as error:
            raise SilenceError(str(error)) from error
        except OSError as error:
            raise ConnectionLostError(str(error) or type(error).__name__) from error
        if not part:
            raise ConnectionLostError("the connection was closed")
        parts += part
    return bytes(parts)
