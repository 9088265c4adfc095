"""The `chunks` file of a pack: its layout and the digests of its rows, in order.

| offset | size | field |
|---|---|---|
| 0 | 8 | magic `SRCHUNKS` |
| 8 | 2 | version, u16 = 1 |
| 10 | 1 | kind: 0 uniform, 1 ragged |
| 11 | 1 | codec: 0 raw, 1 lz4, 2 zstd, 3 blosc |
| 12 | 1 | number of axes of an item |
| 13 | 3 | zero |
| 16 | 8 | rows, u64 |
| 24 | 8 | rows (elements if ragged) per block, u64 |
| 32 | 8 | units: rows (elements if ragged) of the array, u64 |
| 40 | 8 | size of the shard file, u64 |
| 48 | 32 | digest of `zarr.json` |
| 80 | 24 | dtype name, ASCII, zero-padded |
| 104 | 8 x axes | item shape, u64 each |
| ... | 32 x rows | chunk digests |
| ... | 8 x rows | ragged only: byte offset of each row, u64 |
| ... | 8 x rows | ragged only: byte length of each row, u64 |

All integers are little-endian. The pack's digest is the digest of this whole file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, PackDigest, compute_digest
from stockroom.errors import CorruptionError, FormatVersionError, SchemaError, malformed
from stockroom.store.chunking import CHUNK_MAX_NBYTES
from stockroom.store.codecs import Codec
from stockroom.store.dtypes import STORAGE_NAMES
from stockroom.store.pack.layout import PackLayout
from stockroom.store.pack.pack_folder import read_file

MANIFEST_NAME = "chunks"
_MAGIC = b"SRCHUNKS"
_VERSION = 1
_HEADER = struct.Struct("<8sHBBB3xQQQQ32s24s")
_MAX_AXES = 32
_MAX_ROWS = 1 << 32
_MAX_BLOCK_NBYTES = 4 * CHUNK_MAX_NBYTES
_CODECS = tuple(Codec)


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """The first bytes of a `chunks` file: all that it says of the pack, but nothing of single rows."""

    layout: PackLayout
    rows: int
    units: int
    shard_nbytes: int
    zarr_digest: bytes

    @property
    def nbytes(self) -> int:
        """The length of the header itself."""
        return _HEADER.size + 8 * len(self.layout.item_shape or ())


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """A decoded `chunks` file. Arrays are views of its bytes: digests `(rows, 32)`, offsets and lengths `(rows,)`."""

    layout: PackLayout
    units: int
    shard_nbytes: int
    zarr_digest: bytes
    digests: NDArray[np.uint8]
    offsets: NDArray[np.uint64] | None
    lengths: NDArray[np.uint64] | None

    @property
    def rows(self) -> int:
        """Number of chunks in the pack."""
        return len(self.digests)

    @property
    def header(self) -> ManifestHeader:
        """What it says of the pack as a whole."""
        return ManifestHeader(self.layout, self.rows, self.units, self.shard_nbytes, self.zarr_digest)

    @property
    def nbytes(self) -> int:
        """The length of the `chunks` file."""
        per_row = DIGEST_NBYTES + (16 if self.layout.is_ragged else 0)
        return self.header.nbytes + per_row * self.rows

    def encode(self) -> bytes:
        """Return the bytes of the `chunks` file."""
        layout = self.layout
        item_shape = layout.item_shape or ()
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            int(layout.is_ragged),
            _CODECS.index(layout.codec),
            len(item_shape),
            self.rows,
            layout.block_units,
            self.units,
            self.shard_nbytes,
            self.zarr_digest,
            layout.dtype.encode(),
        )
        parts = [header, struct.pack(f"<{len(item_shape)}Q", *item_shape), self.digests.tobytes()]
        if self.offsets is not None and self.lengths is not None:
            parts += [self.offsets.astype("<u8").tobytes(), self.lengths.astype("<u8").tobytes()]
        return b"".join(parts)

    def compute_digest(self) -> PackDigest:
        """Return the digest under which the pack is stored."""
        return PackDigest(compute_digest(self.encode()))


def decode_header(data: Any, nbytes: int, *, where: str) -> ManifestHeader:
    """Decode the header of a manifest of `nbytes`, given its first bytes; raises as `decode_manifest`."""
    view = memoryview(data).cast("B")
    if len(view) < _HEADER.size:
        raise malformed(where, f"at least {_HEADER.size} bytes", f"{len(view)}")
    magic, version, ragged, codec, axes, rows, block, units, shard, zarr, name = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise malformed(where, f"magic {_MAGIC!r}", repr(magic))
    if version != _VERSION:
        raise FormatVersionError(f"{where}: expected version {_VERSION}, found {version}; upgrade Stockroom")
    if ragged > 1 or codec >= len(_CODECS) or axes > _MAX_AXES or rows >= _MAX_ROWS or (ragged and axes):
        raise malformed(where, "a known kind and codec, and valid axes and rows", f"{ragged, codec, axes, rows}")
    per_row = DIGEST_NBYTES + (16 if ragged else 0)
    expected = _HEADER.size + 8 * axes + rows * per_row
    if nbytes != expected:
        raise malformed(where, f"{expected} bytes", f"{nbytes}")
    item_shape = None if ragged else struct.unpack_from(f"<{axes}Q", view, _HEADER.size)
    layout = PackLayout(_decode_dtype(name, where), item_shape, _CODECS[codec], block)
    _check_sizes(layout, rows=rows, units=units, shard_nbytes=shard, where=where)
    return ManifestHeader(layout, rows, units, shard, zarr)


def decode_manifest(data: Any, *, where: str) -> Manifest:
    """Decode a manifest from any buffer, as views; raises `MalformedRecordError` naming `where` if it is malformed."""
    view = memoryview(data).cast("B")
    header = decode_header(view, len(view), where=where)
    columns = _decode_columns(view, header.nbytes, header.rows, header.layout.is_ragged)
    return Manifest(header.layout, header.units, header.shard_nbytes, header.zarr_digest, *columns)


def read_manifest(directory: Path) -> Manifest:
    """Read the whole manifest of the pack in `directory`.

    Raises:
        CorruptionError: it is missing or malformed.
        UnreadableError: it cannot be read now.
    """
    return decode_manifest(read_file(directory, MANIFEST_NAME), where=str(directory / MANIFEST_NAME))


def find_intact_manifest(directory: Path, digest: PackDigest) -> Manifest | None:
    """Return the manifest of the pack in `directory`, or None unless it hashes to `digest`.

    Raises `UnreadableError` if it cannot be read now.
    """
    try:
        manifest = read_manifest(directory)
    except (CorruptionError, FormatVersionError):
        return None
    return manifest if manifest.compute_digest() == digest else None


def _decode_dtype(name: bytes, where: str) -> str:
    try:
        decoded = name.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError as error:
        raise malformed(where, "a dtype name in ASCII", repr(name)) from error
    if decoded not in STORAGE_NAMES:
        raise malformed(where, "a known dtype", repr(decoded))
    return decoded


def _check_sizes(layout: PackLayout, *, rows: int, units: int, shard_nbytes: int, where: str) -> None:
    try:
        unit_nbytes = layout.unit_nbytes
    except SchemaError as error:
        raise malformed(where, "a known dtype", layout.dtype) from error
    block = layout.block_units
    sane = 0 < block * unit_nbytes <= _MAX_BLOCK_NBYTES and units < 1 << 48 and shard_nbytes < 1 << 48
    if not sane or (not layout.is_ragged and units != rows):
        raise malformed(where, "valid sizes", f"{rows} rows, {units} units of {unit_nbytes}, blocks of {block}")


def _decode_columns(
    view: memoryview, start: int, rows: int, ragged: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint64] | None, NDArray[np.uint64] | None]:
    digests = np.frombuffer(view, np.uint8, rows * DIGEST_NBYTES, start).reshape(rows, DIGEST_NBYTES)
    if not ragged:
        return digests, None, None
    start += rows * DIGEST_NBYTES
    return (
        digests,
        np.frombuffer(view, "<u8", rows, start),
        np.frombuffer(view, "<u8", rows, start + 8 * rows),
    )
