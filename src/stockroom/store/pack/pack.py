"""Reads one pack: maps its shard and returns rows, decoding each block at most once.

Training reads through the map, where a sector that cannot be read ends the process. The code that checks, sends or
rewrites packs opens them `careful`: it reads the shard, at the price of a copy, and such a sector is `UnreadableError`.

The shard's size is checked against the manifest before anything is read through the map. All files of a pack are opened
through one handle on its folder, so they belong together even if another folder replaces it meanwhile.
"""

from __future__ import annotations

import os
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import Buffer, PackDigest, view_bytes
from stockroom.errors import AbsentDataError, CorruptionError
from stockroom.files import FileIdentity, identify, refuse_unreadable
from stockroom.store.codecs import Codec, decode_block
from stockroom.store.pack.manifest import MANIFEST_NAME, decode_manifest
from stockroom.store.pack.pack_folder import PackFiles, ReadFile, map_file, open_file, open_folder
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.shard import decode_index, index_nbytes


class StalePackError(Exception):
    """A pack was moved or removed: the caller's locations are out of date."""


class Pack:
    """An open pack. Rows are addressed by number; bytes are returned as copies unless a method says view.

    With `careful`, files are read and not mapped: there is no `address` or `mapping`, and a view is of a copy.

    Raises:
        CorruptionError: the pack or a file of it is missing, malformed or of another size.
        UnreadableError: a file cannot be read now.
    """

    def __init__(self, directory: Path, digest: PackDigest, *, careful: bool = False) -> None:
        self.directory = directory
        self.digest = digest
        folder = open_folder(directory)
        try:
            encoded = self._open_file(folder, MANIFEST_NAME, careful=careful)[0][:]
            self.manifest = decode_manifest(encoded, where=str(directory / MANIFEST_NAME))
            self.layout = self.manifest.layout
            self.presence = self._open_presence(folder)
            self._shard = self._open_shard(folder, careful=careful)
        finally:
            os.close(folder)

    @property
    def is_raw(self) -> bool:
        """Whether rows can be read directly from the map."""
        return self.layout.codec is Codec.RAW

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

    @property
    def is_mapped(self) -> bool:
        """Whether the shard is mapped: it is unless the pack was opened `careful`."""
        return isinstance(self._shard, np.ndarray)

    def read_bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return bytes of the shard, read-only: a view if it is mapped."""
        return self._shard[start:stop]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    def measure_present(self) -> int:
        """Return how many bytes of the shard are on this machine; approximate if the pack is encoded."""
        if self.presence is None:
            return self.mapped_nbytes
        if self.is_raw and self.manifest.lengths is not None:
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
        return self.layout.count_blocks(self.manifest.units) * self.layout.block_nbytes

    def measure_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the length in bytes of each of `rows`."""
        if self.manifest.lengths is None:
            return np.full(len(rows), self.layout.unit_nbytes, np.int64)
        return self.manifest.lengths[rows].astype(np.int64)

    def get_span(self, row: int) -> tuple[int, int]:
        """Return `(offset, nbytes)` of a row among the pack's raw bytes."""
        if self.manifest.offsets is None or self.manifest.lengths is None:
            nbytes = self.layout.unit_nbytes
            return row * nbytes, nbytes
        span = int(self.manifest.offsets[row]), int(self.manifest.lengths[row])
        if span[0] + span[1] > self.body_nbytes:
            raise CorruptionError(f"{self.directory}: row {row} is outside the pack; run `stock fsck`")
        return span

    def get_offsets(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the offset of each of `rows` within the pack's raw bytes."""
        if self.manifest.offsets is None or self.manifest.lengths is None:
            return rows * self.layout.unit_nbytes
        offsets, lengths = self.manifest.offsets[rows], self.manifest.lengths[rows]
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
        return careful

    def view_row(self, row: int) -> NDArray[np.uint8]:
        """Return a read-only view of a row of a raw pack, without a copy."""
        offset, nbytes = self.get_span(row)
        return self._shard[offset : offset + nbytes]

    def read_row(self, row: int) -> bytearray:
        """Return a copy of the raw bytes of a row."""
        if self.is_raw:
            return bytearray(self.view_row(row))
        return self.read_rows([row])[0]

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
        size = self.layout.block_nbytes
        if not self.layout.is_ragged:
            return np.unique(rows // self.layout.block_units)
        begun, ended = (np.bincount(at, minlength=1) for at in self._span_blocks(rows, size))
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
        firsts, stops = self._span_units(rows)
        is_absent: NDArray[np.bool_] = absent.searchsorted(firsts) < absent.searchsorted(stops)
        return is_absent

    def _span_units(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first unit of each of `rows`, and the unit after its last."""
        if self.is_raw:
            return rows, rows + 1
        if not self.layout.is_ragged:
            firsts = rows // self.layout.block_units
            return firsts, firsts + 1
        return self._span_blocks(rows, self.layout.block_nbytes)

    def _span_blocks(self, rows: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first block of `size` bytes of each of `rows` of a ragged pack, and the block after its last."""
        starts = self.get_offsets(rows)
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
        blocks = self.layout.count_blocks(self.manifest.units)
        tail_nbytes = index_nbytes(blocks)
        body_nbytes = self._shard.nbytes - tail_nbytes
        return decode_index(bytes(self._shard[body_nbytes:]), body_nbytes=body_nbytes, where=str(self.directory))

    def _read_encoded(self, row: int, decoded: dict[int, memoryview]) -> bytearray:
        offset, nbytes = self.get_span(row)
        size = self.layout.block_nbytes
        out = bytearray()
        while nbytes > 0:
            block, start = divmod(offset, size)
            if block not in decoded:
                decoded[block] = view_bytes(self.decode_block(block))
            part = decoded[block][start : start + nbytes]
            out += part
            offset, nbytes = offset + len(part), nbytes - len(part)
        return out

    def decode_block(self, block: int) -> Buffer:
        """Return the raw bytes of one block, padding included."""
        offset, nbytes = (int(value) for value in self.spans[block])
        where = f"{self.directory} block {block}"
        return decode_block(
            self.layout.codec, self._shard[offset : offset + nbytes], self.layout.block_nbytes, where=where
        )

    def _open_presence(self, folder: int) -> PresenceMap | None:
        self._presence_file: FileIdentity | None = None
        try:
            fd = os.open(PRESENCE_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            refuse_unreadable(error, self.directory / PRESENCE_NAME)
            raise
        units = self.rows if self.is_raw else self.layout.count_blocks(self.manifest.units)
        try:
            self._presence_file = identify(os.fstat(fd))
            presence = PresenceMap.open_file(fd, units, where=self.directory / PRESENCE_NAME)
        finally:
            os.close(fd)
        return None if presence.is_complete else presence

    def _open_file(self, folder: int, name: str, *, careful: bool) -> tuple[NDArray[np.uint8] | ReadFile, FileIdentity]:
        if not careful:
            return map_file(folder, name, self.directory)
        file = ReadFile(open_file(folder, name, self.directory), self.directory / name)
        return file, file.identity

    def _open_shard(self, folder: int, *, careful: bool) -> NDArray[np.uint8] | ReadFile:
        shard, self._shard_file = self._open_file(folder, self.layout.shard_name, careful=careful)
        self._check_size(shard.nbytes)
        return shard

    def _check_size(self, nbytes: int) -> None:
        expected = self.manifest.shard_nbytes
        least = index_nbytes(self.layout.count_blocks(self.manifest.units)) + (self.body_nbytes if self.is_raw else 0)
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
