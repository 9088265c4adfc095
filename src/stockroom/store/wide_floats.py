"""The values of bfloat16 and float8 as float32, for formats that lack these dtypes, and back, bit for bit.

Every such value is a float32 too. The bits of a NaN are kept in the NaN: those of bfloat16 at the top, as a reader
without Stockroom expects; those of float8 at the bottom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.store.dtypes import DType


def is_extension(dtype: DType) -> bool:
    """Return whether a package other than numpy defines the dtype."""
    return dtype.isbuiltin == 2


def widen_dtype(dtype: DType) -> DType:
    """Return float32 for bfloat16 and float8, and any other dtype as it is."""
    return np.dtype("<f4") if is_extension(dtype) else dtype


def widen(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same values in `widen_dtype`; the array itself if that is its dtype."""
    dtype = values.dtype
    if not is_extension(dtype):
        return values
    codes = values.view(f"u{dtype.itemsize}")
    if dtype.itemsize == 2:
        return np.asarray((codes.astype(np.uint32) << 16).view(np.float32))
    return np.asarray(_list_wide(dtype)[codes])


def narrow(values: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """Return float32 values as `dtype`, which they had before `widen`; other values are rounded to it."""
    with np.errstate(all="ignore"):
        found = np.asarray(values.astype(dtype))
    is_nan = np.isnan(values)
    if not is_nan.any():
        return found
    bits = values[is_nan].view(np.uint32)
    codes = (bits >> 16 if dtype.itemsize == 2 else bits & 0xFF).astype(f"u{dtype.itemsize}").view(dtype)
    found[is_nan] = np.where(np.isnan(codes.astype(np.float32)), codes, found[is_nan])
    return found


def _list_wide(dtype: DType) -> NDArray[np.float32]:
    """Return the float32 of each of the 256 codes."""
    codes = np.arange(256, dtype=np.uint8)
    wide = codes.view(dtype).astype(np.float32)
    is_nan = np.isnan(wide)
    wide.view(np.uint32)[is_nan] = np.uint32(0x7FC00000) | codes[is_nan]
    return wide
