"""Encodes Python's scalars as JSON. Those that JSON lacks become an object that names their type."""

from __future__ import annotations

import base64
import math
from typing import Any


def encode_value(value: Any) -> Any:
    """Encode a bool, int, float, complex, str, bytes or None as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, complex):
        return {"complex": str(value)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return value


def decode_value(value: Any) -> Any:
    """Decode the output of `encode_value`. Raises `ValueError` for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    match value:
        case {"float": str(text)}:
            return float(text)
        case {"complex": str(text)}:
            return complex(text)
        case {"base64": str(text)}:
            return base64.b64decode(text, validate=True)
    raise ValueError(f"expected a plain value, found {value!r}")
