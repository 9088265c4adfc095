"""Values made of leaves again: scalars, and the rows that are asked for."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.states import SCALARS, bits

from stockroom import CorruptionError, InvalidInputError
from stockroom.shelves.model.flatten import encode_scalar
from stockroom.shelves.model.leaf_values import as_array, choose_rows, decode_scalar


@given(value=SCALARS.filter(lambda value: value is not None))
def test_a_scalar_comes_back_from_its_bytes(value: Any) -> None:
    encoded = encode_scalar(value)
    assert encoded is not None
    assert bits(decode_scalar(*encoded)) == bits(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        *((True, b"\1"), (0, b"\0"), (127, b"\x7f"), (128, b"\x80\0"), (-128, b"\x80\xff"), (-129, b"\x7f\xff")),
        *((1 << 64, b"\0" * 8 + b"\1"), (-0.0, struct.pack("<d", -0.0)), (1 - 2j, struct.pack("<dd", 1, -2))),
        *(
            ("ä\ud800", b"\xc3\xa4\xed\xa0\x80"),
            (b"\0", b"\0"),
            (bytearray(b"x"), b"x"),
            (memoryview(b"xyz")[::2], b"xz"),
        ),
    ],
)
def test_a_scalar_has_one_form(value: Any, data: bytes) -> None:
    encoded = encode_scalar(value)
    assert encoded is not None
    assert encoded[1] == data


@pytest.mark.parametrize("value", [None, pytest.param(object(), id="object"), [1], np.zeros(2), range(3)], ids=repr)
def test_what_is_no_scalar_has_none(value: object) -> None:
    assert encode_scalar(value) is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        *(("bool", b"\2"), ("bool", b""), ("bool", b"\0\0"), ("int", b""), ("int", b"\1\0"), ("int", b"\xff\xff")),
        *(("float", b"\0" * 7), ("complex", b"\0" * 8), ("str", b"\xff"), ("str", b"\xc0\x80")),
    ],
)
def test_bytes_that_are_no_scalar_are_corruption(kind: str, data: bytes) -> None:
    with pytest.raises(CorruptionError, match=f"do not encode a valid {kind}"):
        decode_scalar(kind, data)


ROWS = (
    st.slices(9)
    | st.lists(st.integers(-9, 8), max_size=12)
    | st.lists(st.booleans(), min_size=9, max_size=9).map(np.array)
    | st.lists(st.integers(0, 8), max_size=9).map(lambda rows: np.array(rows, np.uint8))
)


@given(rows=ROWS)
def test_rows_are_those_that_numpy_picks(rows: Any) -> None:
    picked = np.arange(9)[np.array(rows, np.int64) if isinstance(rows, list) else rows]
    assert choose_rows(rows, 9, "a").tolist() == picked.tolist()
    assert choose_rows(rows, 9, "a").dtype == np.int64


@pytest.mark.parametrize(("rows", "expected"), [(3, [3]), (range(2), [0, 1]), ((1, 2), [1, 2]), (np.int8(-1), [8])])
def test_what_is_like_positions_will_do(rows: Any, expected: list[int]) -> None:
    assert choose_rows(rows, 9, "a").tolist() == expected


@pytest.mark.parametrize(
    "rows", [9, [-10], [0.0], "1", [[0]], [True], [None], slice("a"), slice(0, 3, 0), [1 << 70], {1: 2}], ids=repr
)
def test_rows_that_are_not_there_are_refused(rows: Any) -> None:
    with pytest.raises(InvalidInputError, match="rows: expected a slice, positions below 9 or a mask for 'a', found"):
        choose_rows(rows, 9, "a")


def test_a_slice_of_a_huge_axis_takes_no_memory() -> None:
    assert choose_rows(slice(5, 50, 20), 1 << 60, "a").tolist() == [5, 25, 45]
    assert choose_rows([-1], 1 << 60, "a").tolist() == [(1 << 60) - 1]


def test_a_dtype_that_numpy_lacks_has_one_axis_more() -> None:
    raw = np.arange(24, dtype=np.uint8)
    assert as_array(raw, "complex32", (2, 3)).shape == (2, 3, 2)
    assert as_array(raw, "complex32", (2, 3)).dtype == np.float16
    assert as_array(raw, "int4", (24,)).dtype == np.uint8
    assert as_array(raw, "bfloat16", (3, 4)).dtype.name == "bfloat16"
    assert np.shares_memory(as_array(raw, "float32", (6,)), raw)
