"""Reads safetensors files: the library checks the file, and tensors of every dtype are mapped from it.

The library itself gives numpy no float8, and copies each tensor that it reads.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError
from stockroom.interop.plain_values import decode_value
from stockroom.interop.safetensors_library import DTYPES, NOTES_KEY, TWO_IN_A_BYTE, read_header
from stockroom.shelves.model.tensor_library import RawTensor


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a file by name, mapped, and its metadata. Values that an export noted are restored.

    Raises `InvalidInputError` for an unsupported dtype, or if safetensors is missing; `CorruptionError` for damage.
    """
    header, start = read_header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    metadata: dict[str, Any] = header.pop("__metadata__", None) or {}
    data = np.frombuffer(mapped, np.uint8)[start:]
    state: dict[str, Any] = {name: _make_tensor(path, name, spec, data) for name, spec in header.items()}
    return _take_notes(state, metadata)


def _make_tensor(path: Path, name: str, spec: dict[str, Any], data: NDArray[np.uint8]) -> RawTensor:
    dtype = DTYPES.get(spec["dtype"])
    if dtype is None:
        raise InvalidInputError(f"{path}: tensor {name!r} has the unsupported dtype {spec['dtype']}; convert it first")
    shape = tuple(spec["shape"])
    if dtype == TWO_IN_A_BYTE and shape:
        shape = (*shape[:-1], shape[-1] // 2)
    start, stop = spec["data_offsets"]
    return RawTensor(dtype, shape, data[start:stop])


def _take_notes(state: dict[str, Any], metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Restore the notes of our own export into state and metadata. Notes of other programs stay as they are."""
    try:
        notes = json.loads(metadata[NOTES_KEY])
        values = {name: decode_value(value) for name, value in notes["values"].items() if name not in state}
        parsed = {name: json.loads(metadata[name]) for name in notes["json"]}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return state, metadata
    rest = {name: value for name, value in metadata.items() if name != NOTES_KEY}
    return state | values, rest | parsed
