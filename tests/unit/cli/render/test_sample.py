"""Samples as text, JSON and bytes."""

from __future__ import annotations

import io
import json

import ml_dtypes
import numpy as np
import pytest

from stockroom.cli.render.column import format_shape
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.sample import array_text, json_value, npy_bytes, raw_bytes, sample_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.content.printable import as_printable

EXTENSION_DTYPES = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
CODES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "m8[s]")
DTYPES = [np.dtype(code) for code in CODES]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", [*DTYPES, *EXTENSION_DTYPES])
def test_every_dtype_and_shape_makes_valid_json(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, "u1").astype(dtype)
    text = json.dumps([json_value(array), sample_document(array)], allow_nan=False)
    assert json.loads(text)[1]["shape"] == list(shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_bytes_come_back_as_the_array(dtype: np.dtype) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    back = np.load(io.BytesIO(npy_bytes(array)), allow_pickle=False)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", EXTENSION_DTYPES)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_npy_bytes_of_a_dtype_that_numpy_lacks_are_its_bits(dtype: type, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    back = np.load(io.BytesIO(npy_bytes(array)), allow_pickle=False)
    assert back.dtype.kind == "u"
    np.testing.assert_array_equal(back.view(dtype), array)


def test_raw_bytes_are_c_order_and_little_endian() -> None:
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    assert raw_bytes(array) == np.arange(6, dtype="<i4").tobytes()
    assert raw_bytes("é") == "é".encode()
    assert raw_bytes(b"\x00\xff") == b"\x00\xff"


def test_numbers_that_json_lacks_become_strings_that_float_reads() -> None:
    value = json_value(np.array([np.nan, np.inf, -np.inf, 0.5]))
    assert value == ["NaN", "Infinity", "-Infinity", 0.5]
    assert float("-Infinity") == -np.inf


def test_a_summary_gives_least_greatest_and_mean() -> None:
    document = sample_document(np.array([1, 2, 6], "u8"))
    assert document["summary"] == {"min": 1, "max": 6, "mean": 3.0}
    assert document["nbytes"] == 24


def test_a_summary_keeps_large_integers_exact() -> None:
    assert sample_document(np.array([0, 2**64 - 1], "u8"))["summary"]["max"] == 2**64 - 1


def test_large_arrays_are_shortened_for_a_terminal() -> None:
    assert "..." in array_text(np.zeros(100_000))


def test_an_axis_of_any_length_is_a_star() -> None:
    assert format_shape((None, 3)) == "(*, 3)"
    assert format_shape((7,)) == "(7,)"
    assert format_shape(()) == "()"


def test_control_characters_never_reach_the_terminal() -> None:
    assert as_printable("a\x1b[31mb\nc\td é") == "a\\x1b[31mb\nc\td é"
    assert as_printable("\ud800") == "\\ud800"


@pytest.mark.parametrize(("key", "text"), [(-3, "-3"), ("a b", "a b"), ("", '""'), ("a\nb", '"a\\nb"')])
def test_a_key_stands_on_one_line(key: int | str, text: str) -> None:
    assert format_key(key) == text


def test_bytes_and_counts_read_well() -> None:
    assert [format_nbytes(n) for n in (0, 1023, 1536, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert [format_count(n, "column") for n in (0, 1, 2)] == ["0 columns", "1 column", "2 columns"]
