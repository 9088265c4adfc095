"""The dtypes Stockroom keeps, by name, and the Zarr data type each is stored as.

Owns the mapping between a numpy dtype, its name in a schema, and its name in a pack. Bytes are always
little-endian. Dates and durations are stored as their int64 counts, so that every Zarr reader opens them.
"""

from __future__ import annotations

from functools import cache
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
"""Registered Zarr data types that numpy gets from ml_dtypes."""

_STORED_AS = {"float8_e4m3": "uint8"}
"""Schema names whose bytes are kept as another Zarr data type."""

STORAGE_NAMES = frozenset(_NUMPY_NAMES + EXTENSION_NAMES)


@cache
def parse_dtype(name: str) -> DType:
    """The little-endian numpy dtype called `name` in a schema; `SchemaError` if it is not one we keep."""
    if name in EXTENSION_NAMES or name in _STORED_AS:
        import ml_dtypes  # here for start-up time: most repositories never need it

        extension: DType = np.dtype(getattr(ml_dtypes, name))
        return extension
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:  # numpy takes names apart as if they were Python
        raise SchemaError(f"expected a dtype such as 'uint8' or 'float32', found {name!r}") from error
    return _check_kept(dtype)


def format_dtype(dtype: DType) -> str:
    """The schema name of `dtype`, whatever its byte order; `SchemaError` if it is not one we keep."""
    name: str = dtype.name
    if name in EXTENSION_NAMES or name in _STORED_AS:
        return name
    return str(_check_kept(dtype).name)


def format_storage(name: str) -> str:
    """The Zarr data type name under which chunks of the schema dtype `name` are stored."""
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
