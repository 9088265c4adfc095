"""Writes a model to a safetensors file: one flat table of tensors, and a few notes.

Names of nested tensors are joined by `.`. Other values are noted in the file's metadata, as JSON, and an import of the
file restores them. Empty containers leave no trace.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import measure_element, parse_component
from stockroom.digest import view_bytes
from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.interop.plain_values import encode_value
from stockroom.interop.safetensors_library import DTYPES, NOTES_KEY, load_safetensors, read_header
from stockroom.shelves.model.leaf_info import LeafInfo
from stockroom.shelves.model.state import State

_WRITABLE: Final = frozenset(DTYPES.values())
_RESERVED: Final = "__metadata__"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export: tensors, their bytes, and the plain values noted beside them."""

    tensors: int
    nbytes: int
    values: int


def write_safetensors(state: State, to: Path, *, tensors_only: bool = False, overwrite: bool = False) -> ExportReport:
    """Write a model to a new file, whole or not at all; with `overwrite`, replace an existing one.

    `tensors_only` leaves out numbers, text and None. Memory is used for a few MiB of one tensor, whatever the size of
    the model; for a tensor that shares its memory, it is used for all that memory. The library lays the file out, full
    of zeros, and then the tensors are written, so twice its size is written. Raises `InvalidInputError` for dtypes and
    names that such a file cannot hold, `AbsentDataError` for absent bytes; then no file is left.
    """
    load_safetensors()
    if to.exists() and not overwrite:
        raise InvalidInputError(f"{to} already exists; choose another name")
    leaves = list(state.leaves())
    names = _choose_names(state, leaves)
    tensors = {names[leaf.path]: leaf for leaf in leaves if leaf.library != "python"}
    _check_dtypes(tensors)
    values = {} if tensors_only else _read_values(state, leaves, names)
    metadata = _make_metadata(state, tensors, values)
    state.prefetch([leaf.path for leaf in tensors.values()] if state.paths() != [""] else None)
    _write(state, tensors, metadata, to)
    return ExportReport(len(tensors), sum(map(_measure, tensors.values())), len(values))


def _choose_names(state: State, leaves: list[LeafInfo]) -> dict[str, str]:
    """Return the name of each leaf, and of each None, by path."""
    paths = [*(leaf.path for leaf in leaves), *state.none_paths()]
    names = {path: ".".join(map(parse_component, path.split("/"))) if path else state.name for path in paths}
    taken: dict[str, str] = {}
    for path, name in names.items():
        if name == _RESERVED or name.encode("utf-8", "replace").decode() != name:
            raise InvalidInputError(f"a safetensors file cannot hold a tensor named {name!r}; rename it first")
        if taken.setdefault(name, path) != path:
            raise InvalidInputError(
                f"{taken[name]!r} and {path!r} would both be named {name!r} in the file; export part of the model"
            )
    return names


def _check_dtypes(tensors: Mapping[str, LeafInfo]) -> None:
    for leaf in tensors.values():
        if leaf.dtype not in _WRITABLE:
            raise InvalidInputError(
                f"a safetensors file cannot hold {leaf.dtype}, the dtype of {leaf.path!r}; convert it first, or export "
                "the model without it"
            )


def _read_values(state: State, leaves: list[LeafInfo], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that are not tensors, by name, as JSON."""
    scalars = [leaf.path for leaf in leaves if leaf.library == "python"]
    values = {names[path]: encode_value(state.read(path)) for path in scalars}
    return values | {names[path]: None for path in state.none_paths()}


def _make_metadata(state: State, tensors: Mapping[str, LeafInfo], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the model's metadata and `values`, with anything but text as JSON."""
    given = state.metadata
    if NOTES_KEY in given:
        raise InvalidInputError(f"the model's metadata has the key {NOTES_KEY!r}, which exports use; rename it first")
    as_json = [name for name, value in given.items() if not isinstance(value, str)]
    metadata = {name: json.dumps(value) if name in as_json else value for name, value in given.items()}
    if any(leaf.library == "torch" for leaf in tensors.values()):
        metadata.setdefault("format", "pt")  # transformers requires it
    if values or as_json:
        metadata[NOTES_KEY] = json.dumps({"values": dict(values), "json": as_json})
    return metadata


def _write(state: State, tensors: Mapping[str, LeafInfo], metadata: dict[str, str], to: Path) -> None:
    """Write through a temporary file beside `to`."""
    library = load_safetensors()
    if not to.parent.is_dir():
        raise InvalidInputError(f"{to}: the folder {to.parent} does not exist; create it first")
    temporary = to.with_name(f".stockroom-{secrets.token_hex(8)}.part")  # a random name, so that no link can wait there
    try:
        temporary.touch(exist_ok=False)  # a folder that is not writable raises the operating system's own error
        mode = temporary.stat().st_mode
        zeros = np.zeros(max(map(_measure, tensors.values()), default=0), np.uint8)
        library.serialize_file(_describe(library, tensors, zeros), str(temporary), metadata=metadata or None)
        temporary.chmod(mode)  # the library makes files that only their owner may read
        _fill(temporary, state, tensors)
        temporary.replace(to)
    except library.SafetensorError as error:
        raise InvalidInputError(f"{to}: safetensors cannot write it: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _describe(library: Any, tensors: Mapping[str, LeafInfo], zeros: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the tensors in the library's form, all of them zeros, which take no memory while they are only read.

    The library takes their address, or, before version 0.8, bytes.
    """
    make = getattr(library, "TensorSpec", None)
    described: dict[str, Any] = {}
    for name, leaf in tensors.items():
        spec = {"dtype": leaf.dtype, "shape": leaf.shape}
        if make is None:
            described[name] = spec | {"data": bytes(_measure(leaf))}
        else:
            described[name] = make(**spec, data_ptr=zeros.ctypes.data, data_len=_measure(leaf))
    return described


def _fill(path: Path, state: State, tensors: Mapping[str, LeafInfo]) -> None:
    """Write each tensor's bytes, a piece at a time, at its offset in the file's header."""
    header, start = read_header(path)
    with path.open("r+b") as file:
        for name, leaf in tensors.items():
            first, end = header[name]["data_offsets"]
            file.seek(start + first)
            for piece in state.iter_pieces(leaf.path):
                file.write(view_bytes(np.ascontiguousarray(piece).reshape(-1).view(np.uint8)))
            if file.tell() != start + end:
                raise CorruptionError(f"leaf {leaf.path!r}: its bytes do not fit its shape; run `stock fsck`")
        file.flush()
        os.fsync(file.fileno())


def _measure(leaf: LeafInfo) -> int:
    """Return the bytes of a tensor as it is written, which may be more than are stored."""
    return measure_element(leaf.dtype) * math.prod(leaf.shape)
