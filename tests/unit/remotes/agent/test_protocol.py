"""Messages between readers and the agent: what comes back is what was sent, and nothing else is understood."""

from __future__ import annotations

import os
import socket
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stockroom.digest import PackDigest
from stockroom.remotes.agent import protocol
from stockroom.remotes.agent.protocol import ConnectionLostError, Done, Failed, Fetch, Hint, Working


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    right.settimeout(5)
    return left, right


units = st.lists(st.integers(0, 1 << 18), max_size=50, unique=True).map(lambda found: np.array(sorted(found), np.int64))


@given(st.lists(units, max_size=4))
def test_units_come_back_as_they_were(many: list[np.ndarray]) -> None:
    wanted = [(PackDigest(bytes([number]) * 32), some) for number, some in enumerate(many)]
    parsed = protocol.parse_wanted(protocol.pack_wanted(wanted))
    assert [pack for pack, _ in parsed] == [pack for pack, _ in wanted]
    assert all(np.array_equal(mine, theirs) for (_, mine), (_, theirs) in zip(parsed, wanted, strict=True))


def test_a_run_of_neighbours_is_short_on_the_wire() -> None:
    ((_, data),) = protocol.pack_wanted([(PackDigest(bytes(32)), np.arange(200_000))])
    assert len(data) == 16


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 15,
        struct.pack("<qq", -1, 4),
        struct.pack("<qq", 4, 4),
        struct.pack("<qq", 0, 1 << 60),
        struct.pack("<qq", 9, 2),
    ],
)
def test_units_that_cannot_be_are_refused(data: bytes) -> None:
    with pytest.raises(ConnectionLostError):
        protocol.parse_wanted([(bytes(32), data)])


def test_messages_come_back_as_they_were(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    for request in (
        Fetch([(b"p" * 32, b"u" * 16)], 3.5, True),
        Hint([]),
        protocol.Drop([b"p" * 32]),
        protocol.Measure(),
        protocol.encode_variables({"AWS_PROFILE": "a"}),
    ):
        protocol.send(left, request)
        assert protocol.receive_request(right) == request
    for answer in (
        Done(3, 4),
        Working(7, "HTTP 503"),
        Failed("TimeoutError", "m", "origin", "ab"),
        protocol.Welcome(2, 1, "0.1"),
        protocol.NeedCredentials(),
    ):
        protocol.send(left, answer)
        assert protocol.receive_answer(right) == answer


@pytest.mark.parametrize(
    "sent", [b"", b"\x01", struct.pack("<I", 1 << 31), struct.pack("<I", 3) + b"abc", struct.pack("<I", 9)]
)
def test_whatever_is_no_message_ends_the_connection(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    left, right = pair
    left.sendall(sent)
    left.close()
    with pytest.raises(ConnectionLostError):
        protocol.receive_request(right)


@given(st.binary(max_size=200))
@example(b"\x91\xa3\x00\x00\x80")  # a text that is no UTF-8
def test_random_bytes_are_no_message(body: bytes) -> None:
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(5)
        left.sendall(struct.pack("<I", len(body)) + body)
        try:
            protocol.receive_request(right)
        except ConnectionLostError:
            return


def test_variables_come_back_as_they_were_even_if_they_are_no_text(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    variables = {"AWS_PROFILE": "ü", "HOME": os.fsdecode(b"/home/\xff")}
    protocol.send(left, protocol.encode_variables(variables))
    received = protocol.receive_request(right)
    assert isinstance(received, protocol.Use)
    assert protocol.decode_variables(received) == variables
    assert "home" not in repr(received)


def test_the_greeting_of_an_older_agent_is_understood(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    body = b"\x93\xa7Welcome\x02\x07"
    left.sendall(struct.pack("<I", len(body)) + body)
    assert protocol.receive_answer(right) == protocol.Welcome(2, 7)


def test_silence_is_told_from_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    right.settimeout(0.01)
    with pytest.raises(protocol.SilenceError):
        protocol.receive_answer(right)
    left.close()
    with pytest.raises(ConnectionLostError) as ended:
        protocol.receive_answer(right)
    assert not isinstance(ended.value, protocol.SilenceError)
