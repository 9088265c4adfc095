"""The only module that imports safetensors, which is optional; and its dtypes by our names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from stockroom.errors import CorruptionError, InvalidInputError

DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F4": "float4_e2m1fn_x2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
"""A dtype's name in a file -> its name here."""

TWO_IN_A_BYTE: Final = "float4_e2m1fn_x2"
"""A file's shape counts half bytes of this dtype, on its last axis."""

NOTES_KEY: Final = "stockroom.export"
"""The metadata key of a file under which an export notes, as JSON, the values that are not tensors."""


def load_safetensors() -> Any:
    """Import safetensors and return it. Raises `InvalidInputError`, saying what to install, if it is missing."""
    try:
        import safetensors
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "safetensors files need the safetensors package: install it with `pip install 'stockroom-vcs[safetensors]'`"
        ) from error
    return safetensors


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file that the library finds whole, in the format's own form, and the tensors' offset.

    The library itself does not tell where a tensor lies. Raises `CorruptionError` if it finds the file damaged.
    """
    library = load_safetensors()
    try:
        with library.safe_open(str(path), framework="np") as opened:
            opened.keys()
        with path.open("rb") as file:
            nbytes = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(nbytes))
    except (OSError, MemoryError):
        raise  # the operating system's own error
    except Exception as error:  # of any class
        raise CorruptionError(f"{path}: not a complete safetensors file: {error}", where=str(path)) from error
    return header, 8 + nbytes
