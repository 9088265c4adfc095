"""Ways to damage the bytes of a record, and what its decoder may make of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from stockroom.errors import FormatVersionError, MalformedRecordError

Coder: TypeAlias = tuple[bytes, Callable[[bytes], Any], Callable[[Any], bytes]]
"""Bytes of a record, what decodes them, and what encodes the record again."""


def check(coder: Coder, data: bytes) -> None:
    """Decoding `data` gives a record of exactly those bytes, or one of the two errors."""
    _, decode, encode = coder
    try:
        record = decode(data)
    except (MalformedRecordError, FormatVersionError):
        return
    assert encode(record) == data


def iter_flipped_bits(data: bytes) -> Iterator[bytes]:
    """`data` with each of its bits flipped in turn."""
    for position in range(len(data)):
        for bit in range(8):
            mutated = bytearray(data)
            mutated[position] ^= 1 << bit
            yield bytes(mutated)


def iter_cuts_and_pastes(data: bytes, count: int) -> Iterator[bytes]:
    """Pieces of `data` and of noise put together at random, always the same."""
    rng = random.Random(20)
    for _ in range(count):
        start, end, at = (rng.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[:at], data[min(start, end) : max(start, end)], rng.randbytes(rng.randrange(4)), data[at:]]
        yield b"".join(pieces[: rng.randint(1, 4)])
