"""Artifacts: files of an experiment under a name, with a media type; read and written in pieces."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeGuard

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.content.nodes import ScalarLeaf
from stockroom.content.snapshot import ARTIFACT
from stockroom.content.state import StateRecord
from stockroom.digest import compute_digest, view_bytes
from stockroom.errors import (
    DigestMismatchError,
    InvalidInputError,
    InvalidNameError,
    MalformedRecordError,
    ValueNotFoundError,
)
from stockroom.files import open_whole
from stockroom.refs.names import check_free_name
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.model.leaf_reader import LeafReader, open_leaves
from stockroom.shelves.pin import Pin, Shelf
from stockroom.store.entry import Entry

UNKNOWN_MEDIA_TYPE: Final = "application/octet-stream"

_PIECE_NBYTES: Final = 4 << 20
_SAVED_NBYTES: Final = 32 << 20
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(;[ -~]+)?", re.ASCII)
_MAX_MEDIA_TYPE: Final = 255
_PATH: Final = ""
"""The path of an artifact's only leaf in its state."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored file; `digest` is the hex BLAKE3-256 of its bytes. Reading it reads no other file."""

    name: str
    media_type: str
    nbytes: int
    digest: str
    _pin: Pin = field(compare=False)
    _reader: LeafReader = field(compare=False)

    def read(self) -> bytes:
        """Return all bytes, verified; raises `AbsentDataError` or `DigestMismatchError`."""
        self._pin.check_open()
        data = self._reader.read([_PATH])[_PATH].tobytes()
        self._check(compute_digest(data))
        return data

    def save(self, path: str | Path) -> Path:
        """Write the file to `path`, which appears there complete, and return the path; replaces an existing file.

        Holds only a part of it in memory. Raises `InvalidInputError` if `path` is a folder, `AbsentDataError`, or
        `DigestMismatchError`.
        """
        target = Path(path)
        with open_whole(target) as file:
            self.write_to(file)
        return target

    def write_to(self, file: BinaryIO) -> None:
        """Write all bytes to an open file, in parts; raises as `read` does, a wrong digest only after the last part."""
        self._pin.check_open()
        whole = blake3()
        for piece in self._reader.iter_bytes(_PATH, _SAVED_NBYTES):
            whole.update(view_bytes(piece))
            file.write(view_bytes(piece))
        self._check(whole.digest())

    def _check(self, digest: bytes) -> None:
        if digest.hex() != self.digest:
            raise DigestMismatchError(self.digest, digest.hex(), where=f"artifact {self.name!r}")

    def __repr__(self) -> str:
        return f"Artifact({self.name!r}, {self.media_type}, {self.nbytes} bytes)"


class Artifacts(Shelf[Artifact]):
    """The artifacts of a commit or stage by name; `del` removes one while writing."""

    _shelf = ARTIFACT
    _noun = "artifact"
    _not_found = ValueNotFoundError

    def __getitem__(self, name: str) -> Artifact:
        content = self._pin.content
        record = content.find_state(f"{ARTIFACT}/{name}") if isinstance(name, str) else None
        if record is None:
            raise self._missing(name)
        reader = open_leaves(self._pin, record)
        if not isinstance(record, StateRecord) or reader.structure.top != ScalarLeaf("bytes"):
            raise MalformedRecordError(f"artifact {name!r}: expected the bytes of a file; run `stock fsck`")
        entry: Entry = reader.get_entries([_PATH])[_PATH]
        media_type = record.metadata.get("media_type")
        known = media_type if _is_media_type(media_type) else UNKNOWN_MEDIA_TYPE
        return Artifact(name, known, entry.nbytes, reader.digest_entries([entry])[0], self._pin, reader)


def write_artifact(workspace: Workspace, name: str, source: str | Path | bytes, media_type: str | None) -> StateRecord:
    """Put the bytes of a file, in parts, and return the record to stage."""
    check_free_name("artifact", name)
    _check_parts(name)
    metadata = {"media_type": _choose_media_type(name, source, media_type)}
    if isinstance(source, bytes | bytearray | memoryview):
        data = np.frombuffer(bytes(source), np.uint8)
        return _write(workspace, len(data), [data], metadata)
    if not isinstance(source, str | Path):
        raise InvalidInputError(f"artifact {name!r}: expected a path or bytes, found {type(source).__name__}")
    with _open_file(name, Path(source)) as file:
        nbytes = os.fstat(file.fileno()).st_size
        return _write(workspace, nbytes, _FilePieces(file, nbytes), metadata)


def choose_target(folder: Path, name: str) -> Path:
    """Return the path for `name` below `folder`, and create its parents.

    Names may come from strangers: raises `InvalidNameError` if the path would be outside the folder or in a repository.
    """
    _check_parts(name)
    parent = folder.joinpath(*name.split("/")[:-1])
    inside = folder.resolve()
    if not parent.resolve().is_relative_to(inside):
        raise InvalidNameError(f"file name {name!r}: a link in it points outside {folder}; export to another folder")
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidInputError(f"{parent}: expected a folder, found a file; export to another folder") from error
    return parent / name.split("/")[-1]


def _check_parts(name: str) -> None:
    """Raise `InvalidNameError` unless `name` is safe as a path below any folder."""
    parts = name.split("/")
    if not name.isprintable() or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidNameError(
            f"file name {name!r}: must be a relative path without '.', '..' or empty parts; choose another name"
        )
    if not {".git", ".stockroom"}.isdisjoint(part.lower() for part in parts):
        raise InvalidNameError(f"file name {name!r}: must not be inside a repository; choose another name")


def _write(workspace: Workspace, nbytes: int, pieces: Any, metadata: dict[str, Any]) -> StateRecord:
    from stockroom.shelves.model.flatten import LeafBytes  # here for start-up time
    from stockroom.shelves.model.state_writer import write_leaves

    leaf = LeafBytes(_PATH, "uint8", (nbytes,), nbytes, pieces)
    with workspace.lock:
        return write_leaves(workspace, ScalarLeaf("bytes"), [leaf], metadata)


@dataclass(frozen=True, slots=True)
class _FilePieces:
    """The bytes of an open file, iterable once; if the file grew, they exceed `nbytes`, which reveals the change."""

    file: BinaryIO
    nbytes: int

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        taken = 0
        while taken <= self.nbytes and (piece := self.file.read(_PIECE_NBYTES)):
            taken += len(piece)
            yield np.frombuffer(piece, np.uint8)


def _open_file(name: str, path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInputError(f"artifact {name!r}: {path} is not a regular file")
        return path.open("rb")
    except FileNotFoundError as error:
        raise InvalidInputError(f"artifact {name!r}: no file at {path}; check the path") from error


def _is_media_type(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= _MAX_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(value) is not None


def _choose_media_type(name: str, source: object, given: str | None) -> str:
    """Return the given media type, checked, or guess it from the name, or else from the path."""
    if given is not None:
        if not _is_media_type(given):
            raise InvalidInputError(f"artifact {name!r}: expected a media type such as image/png, found {given!r}")
        return given
    known = mimetypes.MimeTypes()  # Python's own table: the same on every machine
    for path in (name, str(source) if isinstance(source, str | Path) else ""):
        media_type, encoding = known.guess_type(path, strict=False)
        if encoding is not None:
            return "application/gzip" if encoding == "gzip" else f"application/x-{encoding}"
        if media_type is not None:
            return media_type
    return UNKNOWN_MEDIA_TYPE
