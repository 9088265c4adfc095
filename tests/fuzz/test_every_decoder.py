"""Each decoder of bytes from outside, under mutation: data, or the error that says it is none, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.decoders import DAMAGE_GOLDEN, DECODERS, run

EDGES = [b"\xff" * 8, bytes(8), b"\xff" * 4 + bytes(4), b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
         b"\x91" * 4000,
         b"\x81\xa1a" * 2000, b"[" * 4000, b"\x7f\xff\xff\xff\xff\xff\xff\xff"]  # fmt: skip
"""Numbers at the edge of their types, absurd counts, deep nests."""


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes set to others, taken out or put in, or with a part of another in it."""
    broken = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(broken)))
        new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(EDGES))
        end = at + draw(st.sampled_from([0, len(new), 1, 9]))
        broken[at:end] = new
    if draw(st.integers(0, 3)) == 0:
        other = draw(st.sampled_from(seeds))
        at, start = draw(st.integers(0, len(broken))), draw(st.integers(0, len(other)))
        broken[at:] = other[start:]
    return bytes(broken)


@pytest.mark.parametrize("name", DECODERS)
def test_sound_bytes_are_decoded(name: str) -> None:
    assert all(run(DECODERS[name], seed) for seed in DECODERS[name].seeds)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_mutated_bytes_are_decoded_or_refused_in_bounded_memory(name: str, data: st.DataObject) -> None:
    run(DECODERS[name], data.draw(mutations(DECODERS[name].seeds)))


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 100, *EDGES, b"\xdb" + b"\xff" * 20, b"\xc6\xff\xff\xff\xff"])
def test_bytes_that_are_nothing_are_refused(name: str, data: bytes) -> None:
    run(DECODERS[name], data)


CASES = sorted(path for path in DAMAGE_GOLDEN.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_made_a_decoder_fail_is_refused(path) -> None:
    name = next(name for name in DECODERS if name.replace(" ", "_") == path.parent.name)
    assert not run(DECODERS[name], path.read_bytes())
