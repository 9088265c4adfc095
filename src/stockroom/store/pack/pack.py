"""Reads one pack: maps its shard and returns rows, decoding each block at most once.

Training reads through the map, where a sector that cannot be read ends the process. The code that checks, sends or
rewrites packs opens them `careful`: it reads the shard, at the price of a copy, and such a sector is `UnreadableError`.

The shard's size is checked against the manifest before anything is read through the map. All files of a pack are opened
through one handle on its folder, so they belong together even if another folder replaces it meanwhile. No open pack
keeps a file open, unless it is careful.

Reading rows of one length needs only the header of the manifest. So a `lean` pack maps its manifest when that is
needed, and may release it again: a process reads from many more packs than it looks up chunks in.
"""

from __future__ import annotations

import itertools
import os
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import Buffer, PackDigest, view_bytes
from stockroom.errors import AbsentDataError, CorruptionError
from stockroom.files import FileIdentity, identify, refuse_unreadable
from stockroom.store.codecs import Codec, decode_block
from stockroom.store.pack.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestHeader,
    decode_header,
    decode_manifest,
)
from stockroom.store.pack.map_budget import KeptManifests
from stockroom.store.pack.pack_folder import PackFiles, ReadFile, map_file, open_file, open_folder, read_head
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.recent import RecentValues
from stockroom.store.pack.shard import decode_index, index_nbytes

DECODED: Final = RecentValues[memoryview](32 << 20)
"""The blocks decoded last, of all packs of this process, by the serial number of the open pack and the block."""
_MANIFESTS: Final = KeptManifests(max_count=4096, max_nbytes=1 << 30)
_HEAD_NBYTES: Final = 4096
"""The part of a manifest that opening a lean pack reads; it has the header, or all of it if the pack has few rows."""
_serials = itertools.count()


class StalePackError(Exception):
    """A pack was moved or removed: the caller's locations are out of date."""


class Pack:
    """An open pack. Rows are addressed by number; bytes are returned as copies unless a method says view.

    Attributes:
        is_raw: whether rows are stored as they are, not in encoded blocks.
        is_mapped: whether the shard is mapped: it is unless the pack was opened `careful`.

    With `careful`, files are read and not mapped: there is no `address` or `mapping`, and a view is of a copy. With
    `lean`, the manifest is mapped when it is first needed, which raises `StalePackError` if the pack is gone by then.

    Raises:
        CorruptionError: the pack or a file of it is missing, malformed or of another size.
        UnreadableError: a file cannot be read now.
    """

    def __init__(self, directory: Path, digest: PackDigest, *, careful: bool = False, lean: bool = False) -> None:
        self.directory = directory
        self.digest = digest
        self._serial = next(_serials)
        self._manifest: Manifest | None = None
        folder = open_folder(directory)
        try:
            self.header = self._open_manifest(folder, careful=careful, lean=lean and not careful)
            self.layout = self.header.layout
            self.is_raw = self.layout.codec is Codec.RAW
            self.is_mapped = not careful
            self._is_ragged = self.layout.is_ragged
            self._unit_nbytes = self.layout.unit_nbytes
            self.presence = self._open_presence(folder)
            self._shard = self._open_shard(folder, careful=careful)
        finally:
            os.close(folder)

    @property
    def manifest(self) -> Manifest:
        """The whole manifest."""
        manifest = self._manifest
        if manifest is None:
            manifest = self._manifest = self._reopen_manifest()
            _MANIFESTS.add(self, manifest.nbytes)
        return manifest

    def release_manifest(self) -> None:
        """Unmap the manifest of a lean pack until it is needed again."""
        self._manifest = None

    @property
    def address(self) -> int:
        """The address at which the shard's first byte is mapped."""
        return int(self.mapping.ctypes.data)

    @property
    def mapped_nbytes(self) -> int:
        """Length of the map, in bytes."""
        return self._shard.nbytes

    @property
    def mapping(self) -> NDArray[np.uint8]:
        """The shard's bytes, read-only."""
        assert isinstance(self._shard, np.ndarray)
        return self._shard

    def read_bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return bytes of the shard, read-only: a view if it is mapped."""
        return self._shard[start:stop]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.header.rows

    def measure_present(self) -> int:
        """Return how many bytes of the shard are on this machine; approximate if the pack is encoded."""
        if self.presence is None:
            return self.mapped_nbytes
        if self.is_raw and self._is_ragged:
            assert self.manifest.lengths is not None
            absent = self.presence.list_absent(np.arange(self.rows))
            return int(self.manifest.lengths.sum() - self.manifest.lengths[absent].sum())
        return self.mapped_nbytes * self.presence.count_present() // max(self.presence.units, 1)

    def list_present_spans(self) -> NDArray[np.int64]:
        """Return `(n, 2)`: where the runs of present bytes of the shard begin and end, in order."""
        if self.presence is None:
            return np.array([[0, self.mapped_nbytes]], np.int64)
        units = np.arange(self.presence.units)
        present = np.setdiff1d(units, self.presence.list_absent(units))
        if self.is_raw:
            starts, nbytes = self.get_offsets(present), self.measure_rows(present)
        else:
            starts, nbytes = self.spans[present].astype(np.int64).T
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], (starts + nbytes)[order]
        is_first = np.concatenate([[True], starts[1:] != stops[:-1]])[: len(starts)]
        is_last = np.concatenate([is_first[1:], [True]])[: len(starts)]
        return np.stack([starts[is_first], stops[is_last]], axis=1)

    @property
    def body_nbytes(self) -> int:
        """Raw bytes of the whole array, padding included."""
        return self.layout.count_blocks(self.header.units) * self.layout.block_nbytes

    def measure_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the length in bytes of each of `rows`."""
        if not self._is_ragged:
            return np.full(len(rows), self._unit_nbytes, np.int64)
        return self._get_ragged()[1][rows].astype(np.int64)

    def get_span(self, row: int) -> tuple[int, int]:
        """Return `(offset, nbytes)` of a row among the pack's raw bytes."""
        if not self._is_ragged:
            return row * self._unit_nbytes, self._unit_nbytes
        offsets, lengths = self._get_ragged()
        span = int(offsets[row]), int(lengths[row])
        if span[0] + span[1] > self.body_nbytes:
            raise CorruptionError(f"{self.directory}: row {row} is outside the pack; run `stock fsck`")
        return span

    def get_offsets(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the offset of each of `rows` within the pack's raw bytes."""
        if not self._is_ragged:
            return rows * self._unit_nbytes
        offsets, lengths = (column[rows] for column in self._get_ragged())
        limit = np.uint64(self.body_nbytes)
        if ((lengths > limit) | (offsets > limit - np.minimum(lengths, limit))).any():
            raise CorruptionError(f"{self.directory}: a row is outside the pack; run `stock fsck`")
        return offsets.astype(np.int64)

    @property
    def files(self) -> PackFiles:
        """The shard that this pack has mapped, and the presence map that was beside it."""
        return PackFiles(self._shard_file, self._presence_file)

    def open_shard(self) -> int:
        """Open the shard file that this pack has mapped; raises `StalePackError` if another file has replaced it."""
        try:
            fd = os.open(self.directory / self.layout.shard_name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StalePackError(self.digest) from None
        except OSError as error:
            refuse_unreadable(error, self.directory / self.layout.shard_name)
            raise
        if identify(os.fstat(fd)) != self._shard_file:
            os.close(fd)
            raise StalePackError(self.digest)
        return fd

    def reopen_careful(self) -> Pack:
        """Return the same pack, opened `careful`; raises `StalePackError` if another has replaced it."""
        careful = copy(self)
        shard = ReadFile(self.open_shard(), self.directory / self.layout.shard_name)
        self._check_size(shard.nbytes)
        careful._shard = shard
        careful.is_mapped = False
        return careful

    def view_row(self, row: int) -> NDArray[np.uint8]:
        """Return a read-only view of a row of a raw pack, without a copy."""
        offset, nbytes = self.get_span(row)
        return self._shard[offset : offset + nbytes]

    def read_row(self, row: int) -> bytearray:
        """Return a copy of the raw bytes of a row."""
        if self.is_raw:
            return bytearray(self.view_row(row))
        return self._read_encoded(row, {})

    def read_rows(self, rows: list[int]) -> list[bytearray]:
        """Return copies of the raw bytes of several rows, decoding each block once."""
        if self.is_raw:
            return [bytearray(self.view_row(row)) for row in rows]
        decoded: dict[int, memoryview] = {}
        return [self._read_encoded(row, decoded) for row in rows]

    def list_units(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the units of transfer that hold `rows`: the rows themselves if raw, else blocks."""
        if self.is_raw:
            return rows
        if not self._is_ragged:
            return np.unique(rows // self.layout.block_units)
        begun, ended = (np.bincount(at, minlength=1) for at in self._find_units(rows))
        edges = np.zeros(max(len(begun), len(ended)), np.int64)
        edges[: len(begun)] += begun
        edges[: len(ended)] -= ended
        return np.flatnonzero(np.cumsum(edges))

    def list_absent(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the units that `rows` need and that are not on this machine."""
        if self.presence is None:
            return np.empty(0, np.int64)
        return self.list_absent_units(self.list_units(rows))

    def mask_absent(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of `rows` needs a unit that is not on this machine, as `(n,)`."""
        absent = self.list_absent(rows)
        if not len(absent):
            return np.zeros(len(rows), np.bool_)
        firsts, stops = self._find_units(rows)
        is_absent: NDArray[np.bool_] = absent.searchsorted(firsts) < absent.searchsorted(stops)
        return is_absent

    def _find_units(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first unit of each of `rows`, and the unit after its last."""
        if self.is_raw:
            return rows, rows + 1
        if not self.layout.is_ragged:
            firsts = rows // self.layout.block_units
            return firsts, firsts + 1
        size, starts = self.layout.block_nbytes, self.get_offsets(rows)
        return starts // size, -(-(starts + self.measure_rows(rows)) // size)

    def list_absent_units(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the units among `units` that are not on this machine, sorted and unique."""
        presence = self.presence
        if presence is None:
            return np.empty(0, np.int64)
        absent = presence.list_absent(units)
        if not len(absent) and presence.is_complete:
            self.presence = None  # it has been filled: from now on it is a whole pack
        return absent

    @cached_property
    def spans(self) -> NDArray[np.uint64]:
        """`(blocks, 2)`: offset and encoded size of each block, from the shard's index."""
        blocks = self.layout.count_blocks(self.header.units)
        body_nbytes = self._shard.nbytes - index_nbytes(blocks)
        return decode_index(self._shard[body_nbytes:], body_nbytes=body_nbytes, where=str(self.directory))

    def _read_encoded(self, row: int, decoded: dict[int, memoryview]) -> bytearray:
        offset, nbytes = self.get_span(row)
        size = self._block_nbytes
        parts = []
        while nbytes > 0:
            block, start = divmod(offset, size)
            content = decoded.get(block)
            if content is None:
                content = decoded[block] = self._get_decoded(block)
            parts.append(content[start : start + nbytes])
            taken = len(parts[-1])
            offset, nbytes = offset + taken, nbytes - taken
        return bytearray(parts[0]) if len(parts) == 1 else bytearray().join(parts)

    def _get_decoded(self, block: int) -> memoryview:
        """Return the raw bytes of one block, read-only: decoded before if it was among the last, unless careful."""
        if not self.is_mapped:
            return view_bytes(self.decode_block(block))
        key = self._serial, block
        content = DECODED.find(key)
        if content is None:
            content = view_bytes(self.decode_block(block)).toreadonly()
            DECODED.keep(key, content, len(content))
        return content

    def decode_block(self, block: int) -> Buffer:
        """Return the raw bytes of one block, padding included."""
        offset, nbytes = self.spans[block].tolist()
        where = f"{self.directory} block {block}"
        return decode_block(self.layout.codec, self._shard[offset : offset + nbytes], self._block_nbytes, where=where)

    @cached_property
    def _block_nbytes(self) -> int:
        return self.layout.block_nbytes

    def _get_ragged(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the offset and the length of each row of a ragged pack."""
        manifest = self.manifest
        assert manifest.offsets is not None
        assert manifest.lengths is not None
        return manifest.offsets, manifest.lengths

    def _open_manifest(self, folder: int, *, careful: bool, lean: bool) -> ManifestHeader:
        where = f"{self.directory}/{MANIFEST_NAME}"
        if lean:
            head, nbytes = read_head(folder, MANIFEST_NAME, self.directory, _HEAD_NBYTES)
            if len(head) < nbytes:
                return decode_header(head, nbytes, where=where)
            self._manifest = decode_manifest(head, where=where)
        else:
            encoded = self._open_file(folder, MANIFEST_NAME, careful=careful)[0][:]
            self._manifest = decode_manifest(encoded, where=where)
        return self._manifest.header

    def _reopen_manifest(self) -> Manifest:
        """Map the manifest, which is the same wherever this pack is; raises `StalePackError` if it is nowhere."""
        try:
            folder = open_folder(self.directory)
            try:
                encoded, _ = map_file(folder, MANIFEST_NAME, self.directory)
            finally:
                os.close(folder)
            manifest = decode_manifest(encoded, where=f"{self.directory}/{MANIFEST_NAME}")
        except CorruptionError:
            raise StalePackError(self.digest) from None
        if manifest.header != self.header:
            raise StalePackError(self.digest)
        return manifest

    def _open_presence(self, folder: int) -> PresenceMap | None:
        self._presence_file: FileIdentity | None = None
        try:
            fd = os.open(PRESENCE_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            refuse_unreadable(error, self.directory / PRESENCE_NAME)
            raise
        units = self.rows if self.is_raw else self.layout.count_blocks(self.header.units)
        try:
            self._presence_file = identify(os.fstat(fd))
            presence = PresenceMap.open_file(fd, units, where=self.directory / PRESENCE_NAME)
        finally:
            os.close(fd)
        return None if presence.is_complete else presence

    def _open_file(self, folder: int, name: str, *, careful: bool) -> tuple[NDArray[np.uint8] | ReadFile, FileIdentity]:
        if not careful:
            return map_file(folder, name, self.directory)
        file = ReadFile(open_file(folder, name, self.directory)[0], self.directory / name)
        return file, file.identity

    def _open_shard(self, folder: int, *, careful: bool) -> NDArray[np.uint8] | ReadFile:
        shard, self._shard_file = self._open_file(folder, self.layout.shard_name, careful=careful)
        self._check_size(shard.nbytes)
        return shard

    def _check_size(self, nbytes: int) -> None:
        expected = self.header.shard_nbytes
        least = index_nbytes(self.layout.count_blocks(self.header.units)) + (self.body_nbytes if self.is_raw else 0)
        if nbytes != expected or expected < least:
            path = self.directory / self.layout.shard_name
            raise CorruptionError(
                f"{path}: expected {max(expected, least)} bytes, found {nbytes}; run `stock fsck`", where=str(path)
            )


def raise_absent(pack: Pack, absent: NDArray[np.int64], *, why: str) -> NoReturn:
    """Raise `AbsentDataError` for units that cannot be fetched; `why` says why, and what to do."""
    name = pack.digest.hex()
    kind = "rows" if pack.is_raw else "blocks"
    raise AbsentDataError(f"pack {name[:12]}: {len(absent)} of its {kind} are not on this machine; {why}", pack=name)
