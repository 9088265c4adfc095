"""bfloat16 and float8 as float32: every code there is, both ways."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom.store.dtypes import EXTENSION_NAMES, parse_dtype
from stockroom.store.wide_floats import narrow, widen, widen_dtype


@pytest.mark.parametrize("name", [*EXTENSION_NAMES, "float8_e4m3"])
def test_every_value_is_a_float32_and_comes_back_bit_for_bit(name: str) -> None:
    dtype = parse_dtype(name)
    codes = np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}")
    wide = widen(codes.view(dtype))
    assert wide.dtype == widen_dtype(dtype) == np.float32
    np.testing.assert_array_equal(wide, codes.view(dtype).astype(np.float32))
    np.testing.assert_array_equal(narrow(wide, dtype).view(codes.dtype), codes)


def test_other_float32_values_are_rounded_and_a_foreign_nan_stays_nan() -> None:
    dtype = parse_dtype("bfloat16")
    assert narrow(np.array([1.00001, -3.14159], np.float32), dtype).tolist() == [1.0, -3.140625]
    foreign = np.array([0x7F800001, 0x7FC00000], np.uint32).view(np.float32)
    for name in (*EXTENSION_NAMES, "float8_e4m3"):
        assert np.isnan(narrow(foreign, parse_dtype(name)).astype(np.float32)).all()


def test_numpys_own_dtypes_stay_as_they_are() -> None:
    values = np.arange(3, dtype=np.float16)
    assert widen(values) is values
