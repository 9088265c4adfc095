"""A bundle: the metadata that one push brings to a remote, in one file named by its digest.

    offset  size  type    field
    0       8     bytes   magic "SRBUNDLE"
    8       2     u16 LE  version, 1
    10      6             zero
    16      8     u64 LE  number of records
    24      8     u64 LE  size of the file
    32      ...           records

    a record:
    0       1     u8      kind: 1 object, 2 commit, 3 pack
    1       3             zero
    4       4     u32 LE  size of the payload
    8       32    bytes   digest of the object, commit or pack
    40      ...   bytes   payload

The payload of an object is its database value (see `refs.objects`), and of a commit its record. For a pack it is:

    0       4     u32 LE  size of zarr.json
    4       4             zero
    8       8     u64 LE  size of the chunk list
    16      8     u64 LE  size of the shard's index; 0 for a raw pack, whose index follows from its layout
    24      ...   bytes   zarr.json, chunk list, index
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from stockroom.digest import Buffer, PackDigest, compute_file_digest, view_bytes
from stockroom.errors import DigestMismatchError, FormatVersionError, MalformedRecordError
from stockroom.remotes.format.ref_state import BundleEntry

_MAGIC: Final = b"SRBUNDLE"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sH6xQQ")
_RECORD: Final = struct.Struct("<B3xI32s")
_PACK: Final = struct.Struct("<I4xQQ")
_MAX_PAYLOAD_NBYTES: Final = (1 << 32) - 1
_BUFFER_NBYTES: Final = 256 << 10
"""Gathered before a write to the file: a record is only about 2 KiB."""


class RecordKind(IntEnum):
    """The kind of a record's content."""

    OBJECT = 1
    COMMIT = 2
    PACK = 3


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """One record; the payload is a view of the bundle."""

    kind: RecordKind
    digest: bytes
    payload: memoryview


@dataclass(frozen=True, slots=True)
class BundlePack:
    """A pack's files without its rows: `zarr.json`, the chunk list, and the shard's index unless the pack is raw."""

    zarr_json: Buffer
    chunks: Buffer
    index: Buffer

    def encode(self) -> bytes:
        """Return the payload of a pack's record."""
        parts = [view_bytes(part) for part in (self.zarr_json, self.chunks, self.index)]
        return _PACK.pack(*(len(part) for part in parts)) + b"".join(parts)


def decode_pack_files(payload: memoryview, *, where: str) -> BundlePack:
    """Decode `BundlePack.encode`'s output as views. Raises `MalformedRecordError` naming `where` if it is malformed."""
    if len(payload) >= _PACK.size:
        zarr, chunks, index = _PACK.unpack_from(payload)
        if _PACK.size + zarr + chunks + index == len(payload):
            ends = (_PACK.size + zarr, _PACK.size + zarr + chunks)
            return BundlePack(payload[_PACK.size : ends[0]], payload[ends[0] : ends[1]], payload[ends[1] :])
    raise MalformedRecordError(f"{where}: malformed pack record; the remote is damaged", where=where)


class BundleWriter:
    """Writes a bundle to a new file, each digest once. `nbytes` is its size, and `packs` are described, so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb", buffering=_BUFFER_NBYTES)
        self._file.write(bytes(_HEADER.size))
        self.nbytes = _HEADER.size
        self._counts = dict.fromkeys(RecordKind, 0)
        self._seen: set[bytes] = set()
        self.packs: list[PackDigest] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is no record yet."""
        return not self._seen

    def add(self, kind: RecordKind, digest: bytes, payload: Buffer) -> None:
        """Add a record, unless its digest is already there."""
        if digest in self._seen:
            return
        self._seen.add(digest)
        view = view_bytes(payload)
        assert len(view) <= _MAX_PAYLOAD_NBYTES
        self._file.write(_RECORD.pack(kind, len(view), digest))
        self._file.write(view)
        self.nbytes += _RECORD.size + len(view)
        self._counts[kind] += 1
        if kind is RecordKind.PACK:
            self.packs.append(PackDigest(digest))

    def add_pack(self, digest: PackDigest, files: BundlePack) -> None:
        """Add the record of a pack."""
        self.add(RecordKind.PACK, digest, files.encode())

    def finish(self) -> BundleEntry:
        """Complete the file and return its entry for a ref state."""
        self._file.seek(0)
        self._file.write(_HEADER.pack(_MAGIC, _VERSION, len(self._seen), self.nbytes))
        self._file.close()
        entry = BundleEntry(compute_file_digest(self.path), self.nbytes, *(self._counts[kind] for kind in RecordKind))
        with _map_bundle(self.path, where=str(self.path)) as written:
            assert sum(1 for _ in written.iter_records()) == len(self._seen)
        return entry

    def abort(self) -> None:
        """Remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Bundle:
    """A mapped bundle whose digest has been verified. Views of it must be gone before it is closed."""

    def __init__(self, mapped: mmap.mmap, count: int, where: str) -> None:
        self._mapped = mapped
        self._view = memoryview(mapped)
        self.count = count
        self.where = where

    def iter_records(self) -> Iterator[BundleRecord]:
        """Yield every record, in order. Raises `MalformedRecordError` if one does not lie in the file."""
        view, offset = self._view, _HEADER.size
        for _ in range(self.count):
            start = offset + _RECORD.size
            if start > len(view):
                raise self._malformed("it is truncated")
            kind, nbytes, digest = _RECORD.unpack_from(view, offset)
            if nbytes > len(view) - start or kind not in (1, 2, 3):
                raise self._malformed(f"it has a record of kind {kind} and {nbytes} bytes")
            yield BundleRecord(RecordKind(kind), digest, view[start : start + nbytes])
            offset = start + nbytes
        if offset != len(view):
            raise self._malformed("it has bytes after its last record")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BufferError):  # a view is still held, such as in a traceback: the map goes with the last one
            self._view.release()
            self._mapped.close()

    def _malformed(self, what: str) -> MalformedRecordError:
        return MalformedRecordError(f"{self.where}: malformed bundle: {what}; the remote is damaged", where=self.where)


def open_bundle(path: Path, entry: BundleEntry, *, where: str) -> Bundle:
    """Open the bundle in a file and check it against `entry`. Errors name `where`.

    Raises:
        DigestMismatchError: it is another bundle.
        MalformedRecordError: it is not a bundle.
        FormatVersionError: a newer Stockroom wrote it.
    """
    nbytes = path.stat().st_size
    if nbytes != entry.nbytes or nbytes < _HEADER.size:
        raise MalformedRecordError(f"{where}: expected a bundle of {entry.nbytes} bytes, found {nbytes}", where=where)
    digest = compute_file_digest(path)
    if digest != entry.digest:
        raise DigestMismatchError(entry.digest.hex(), digest.hex(), where=where)
    return _map_bundle(path, where=where)


def _map_bundle(path: Path, *, where: str) -> Bundle:
    """Open the bundle in a file whose digest is known. Raises as `open_bundle` if it is not a bundle."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, version, count, stated = _HEADER.unpack_from(mapped)
    if magic != _MAGIC:
        raise MalformedRecordError(f"{where}: expected a bundle, found {magic!r}", where=where)
    if version != _VERSION:
        raise FormatVersionError(f"{where}: expected bundle version {_VERSION}, found {version}: upgrade Stockroom")
    nbytes = len(mapped)
    if stated != nbytes or count > (nbytes - _HEADER.size) // _RECORD.size:
        raise MalformedRecordError(
            f"{where}: expected {count} records in {stated} bytes, found {nbytes} bytes; the remote is damaged",
            where=where,
        )
    return Bundle(mapped, count, where)


def merge_bundle(source: Bundle, writer: BundleWriter) -> None:
    """Copy every record of a bundle into another."""
    for record in source.iter_records():
        writer.add(record.kind, record.digest, record.payload)


MAX_BUNDLES: Final = 8
_MAX_MERGED_NBYTES: Final = 32 << 20


def plan_compaction(entries: Sequence[BundleEntry], new_nbytes: int) -> int:
    """Return how many of the newest `entries` to merge into a new bundle of `new_nbytes`, so that few remain.

    As in an LSM tree, no bundle is merged while there is room. After that, a bundle is merged if room is still needed,
    or if it is less than twice as large as the sum of those merged before and the result is at most 32 MiB.
    """
    if len(entries) < MAX_BUNDLES:
        return 0
    total, merged = new_nbytes, 0
    for entry in reversed(entries):
        must = len(entries) - merged >= MAX_BUNDLES
        may = entry.nbytes < 2 * total and total + entry.nbytes <= _MAX_MERGED_NBYTES
        if not (must or may):
            break
        total += entry.nbytes
        merged += 1
    return merged
