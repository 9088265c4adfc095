"""The dtypes that Stockroom stores, by name, and the Zarr data type of each.

Owns the mapping between a numpy dtype, its name in a schema, and its name in a pack. Bytes are always little-endian.
Dates and durations are stored as int64 counts, so every Zarr reader can open them.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np

from stockroom.errors import SchemaError

DType: TypeAlias = np.dtype[Any]

_NUMPY_NAMES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
EXTENSION_NAMES = (
    "bfloat16",
    "float8_e3m4",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
"""Registered Zarr data types whose numpy dtypes come from ml_dtypes."""

_STORED_AS = {"float8_e4m3": "uint8"}
"""Schema names whose bytes are stored as another Zarr data type."""

STORAGE_NAMES = frozenset(_NUMPY_NAMES + EXTENSION_NAMES)


@cache
def parse_dtype(name: str) -> DType:
    """Return the little-endian numpy dtype of a schema name; raises `SchemaError` if we do not store it."""
    if name in EXTENSION_NAMES or name in _STORED_AS:
        import ml_dtypes  # here for start-up time: most repositories never need it

        extension: DType = np.dtype(getattr(ml_dtypes, name))
        return extension
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:  # numpy parses names as if they were Python
        raise SchemaError(f"expected a dtype such as 'uint8' or 'float32', found {name!r}") from error
    return _check_kept(dtype)


@lru_cache(256)  # numpy works out the name of a dtype again at each use
def format_dtype(dtype: DType) -> str:
    """Return the schema name of `dtype`, in any byte order; raises `SchemaError` if we do not store it."""
    name: str = dtype.name
    if name in EXTENSION_NAMES or name in _STORED_AS:
        return name
    return str(_check_kept(dtype).name)


def format_storage(name: str) -> str:
    """Return the name of the Zarr data type in which chunks of the schema dtype `name` are stored."""
    if name.startswith(("datetime64", "timedelta64")):
        return "int64"
    return _STORED_AS.get(name, name)


def _check_kept(dtype: DType) -> DType:
    is_date = dtype.kind in "mM" and np.datetime_data(dtype)[0] != "generic"
    if dtype.name in _NUMPY_NAMES or is_date:
        return dtype.newbyteorder("<")
    raise SchemaError(
        f"dtype {dtype} cannot be stored: expected bool, an integer, float, complex, datetime64 or timedelta64 "
        "with a unit, bfloat16 or float8 dtype; convert with `array.astype(...)`"
    )
