"""Fills a partial pack: plans the byte ranges to request from the remote's shard, verifies them and writes them.

Nothing is marked present before it is synced, and no row can be read before its digest is verified: a row that takes
several blocks when the last of them comes. Only one process at a time may fill a store's packs; its threads may share a
filler.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, Buffer, PackDigest, view_bytes
from stockroom.errors import CorruptionError, StockroomError
from stockroom.files import identify, sync_data
from stockroom.store.codecs import decode_block
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_folder import PackFiles, find_files, open_folder
from stockroom.store.pack.pack_lock import try_lock_packs
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.sparse_pack import count_units

_OPENINGS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class ByteRange:
    """Bytes `start` to `stop` of a shard, and the absent units `(n,)` within them, sorted."""

    start: int
    stop: int
    units: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """The length of the range."""
        return self.stop - self.start


class PackFiller:
    """One partial pack, open for filling. It fills the files it has open, wherever they are; see `is_in_place`."""

    def __init__(self, directory: Path, digest: PackDigest) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._recording = threading.Lock()
        self._written: list[NDArray[np.int64]] = []
        self._unfinished: dict[int, range] = {}
        self._open(digest)
        self.units = count_units(self.pack.manifest)
        self.shard_name = self.pack.layout.shard_name

    def close(self) -> None:
        """Close the files."""
        self._close()
        self._fd = -1

    def is_in_place(self) -> bool:
        """Return whether the files that this filler has open are those in the pack's place, where readers look."""
        try:
            folder = open_folder(self._directory)
        except CorruptionError:  # there is none
            return False
        try:
            return self._is_at_home(folder)
        finally:
            os.close(folder)

    def list_absent(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the absent units among `units`, sorted and unique; raises `CorruptionError` if the pack lacks one."""
        if len(units) and not 0 <= int(units.min()) <= int(units.max()) < self.units:
            raise CorruptionError(f"pack {self.pack.digest.hex()}: expected units below {self.units}, found others")
        if self._presence is None:
            return np.empty(0, np.int64)
        return self._presence.list_absent(units)

    def measure(self, units: NDArray[np.int64]) -> int:
        """Return the number of bytes that `units` take in the shard."""
        return int((self._stops[units] - self._starts[units]).sum())

    def trim(self, units: NDArray[np.int64], segment_nbytes: int) -> NDArray[np.int64]:
        """Drop from sorted `units` the trailing ones that share a segment of the shard with a unit after them.

        Segments are aligned to their size, and a unit belongs to the segment it begins in.
        """
        if not len(units) or int(units[-1]) + 1 == self.units:
            return units
        segments = self._starts // segment_nbytes
        last, following = segments[units[-1]], segments[units[-1] + 1]
        return units if last != following else units[segments[units] != last]

    def plan_ranges(
        self, units: NDArray[np.int64], *, gap_nbytes: int, max_nbytes: int, taken: NDArray[np.bool_] | None = None
    ) -> list[ByteRange]:
        """Return ranges of up to `max_nbytes` that hold all of `units`, which are sorted and absent.

        Gaps of up to `gap_nbytes` are read through, and absent units in them are included. A gap is not read through if
        it holds a unit marked in `taken`, `(units of the pack,)`: those arrive by another way.
        """
        starts, stops = self._starts[units], self._stops[units]
        is_cut = starts[1:] - stops[:-1] > gap_nbytes
        if taken is not None:
            before = np.concatenate([[0], np.cumsum(taken)])
            is_cut |= before[units[1:]] != before[units[:-1]]
        ranges = []
        for run in np.split(np.arange(len(units)), np.flatnonzero(is_cut) + 1):
            for first, last in _split_run(starts[run], stops[run], max_nbytes):
                inside = np.arange(units[run[first]], units[run[last]] + 1)
                absent = inside if len(inside) == last - first + 1 else self.list_absent(inside)
                ranges.append(ByteRange(int(starts[run[first]]), int(stops[run[last]]), absent))
        return ranges

    def accept(self, span: ByteRange, content: Buffer) -> NDArray[np.int64]:
        """Write the units of `span` that are right as far as it shows; returns the others.

        `record_present` then records the written ones.

        Raises:
            OSError: the disk is full, or the like; nothing is marked.
        """
        view = view_bytes(content)
        if len(view) != span.nbytes:
            return span.units
        good, unfinished = self._verify(span, view)
        self._write(span, view, span.units[good])
        with self._lock:
            self._written.append(span.units[good])
            self._unfinished.update(unfinished)
        return span.units[~good]

    def record_present(self) -> NDArray[np.int64]:
        """Sync the units accepted so far and mark them present; returns them.

        Blocks that make up a row together which does not match its digest are absent afterwards, all of them.
        """
        with self._recording:  # a caller with nothing left to mark has waited for the one who marked it
            with self._lock:
                written, self._written = self._written, []
                unfinished, self._unfinished = self._unfinished, {}
            if not written:
                return np.empty(0, np.int64)
            assert self._presence is not None
            units = np.concatenate(written)
            sync_data(self._fd)
            wrong = self._list_wrong(units, unfinished)
            self._presence.clear(wrong)
            units = np.setdiff1d(units, wrong)
            self._presence.add(units)
            if self._presence.is_complete:
                self._remove_map()
            return units

    def _open(self, digest: PackDigest) -> None:
        """Open the files, all from the folder in place, though another may be replacing it."""
        for _ in range(_OPENINGS):
            self.pack = Pack(self._directory, digest)
            self._presence: PresenceMap | None = None
            self._fd = -1
            self._close: Callable[[], object] = lambda: None
            with suppress(FileNotFoundError):  # replaced just now, or filled by another process
                files = self.pack.files if self.pack.presence is None else self._open_to_write()
                if files == self.pack.files and self.is_in_place():
                    return
            self.close()
        raise CorruptionError(f"pack {digest.hex()}: is replaced again and again: is something else moving packs?")

    def _open_to_write(self) -> PackFiles:
        self._presence = PresenceMap.open(self._directory, count_units(self.pack.manifest), writable=True)
        self._fd = os.open(self._directory / self.pack.layout.shard_name, os.O_RDWR | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._fd)  # not before the last job is done with it
        return PackFiles(identify(os.fstat(self._fd)), self._presence.file)

    def _remove_map(self) -> None:
        """Remove a complete map, but never that of another folder. It may as well stay, as while packs are moved."""
        with suppress(StockroomError, OSError), try_lock_packs(self._directory.parent.parent) as is_held:
            if is_held:
                folder = open_folder(self._directory)
                try:
                    if self._is_at_home(folder):
                        os.unlink(PRESENCE_NAME, dir_fd=folder)
                finally:
                    os.close(folder)

    def _is_at_home(self, folder: int) -> bool:
        """Return whether the open folder has the files that this filler has open, the map unless it was removed."""
        found = find_files(folder, self.pack.layout.shard_name)
        if found is not None and found.presence is None and self._presence is not None and self._presence.is_complete:
            found = found._replace(presence=self._presence.file)
        return found == self.pack.files

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return self._bounds[0]

    @cached_property
    def _stops(self) -> NDArray[np.int64]:
        return self._bounds[1]

    @cached_property
    def _bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The start and stop of each unit's bytes in the shard."""
        pack = self.pack
        rows = np.arange(pack.rows)
        offsets, lengths = pack.get_offsets(rows), pack.measure_rows(rows)  # raises if a row lies outside
        starts, sizes = (offsets, lengths) if pack.is_raw else pack.spans.astype(np.int64).T
        stops = starts + sizes
        is_outside = len(stops) > 0 and int(stops[-1]) > pack.mapped_nbytes
        if (
            is_outside or _overlap(starts, sizes) or _overlap(offsets, lengths)
        ):  # `_get_row_range` relies on their order
            raise CorruptionError(
                f"pack {pack.digest.hex()}: rows overlap or are outside the shard; the remote is damaged",
                where=pack.digest.hex(),
            )
        return starts, stops

    def _verify(self, span: ByteRange, view: memoryview) -> tuple[NDArray[np.bool_], dict[int, range]]:
        """Return whether each of the range's units is right, as `(n,)`, and the rows that other blocks will complete.

        Each such row comes with the blocks it takes.
        """
        if not self.pack.is_raw:
            return self._verify_blocks(span, view)
        starts = (self._starts[span.units] - span.start).tolist()
        stops = (self._stops[span.units] - span.start).tolist()
        digests = [blake3(view[start:stop]).digest() for start, stop in zip(starts, stops, strict=True)]
        found = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
        good: NDArray[np.bool_] = (found == self.pack.manifest.digests[span.units]).all(axis=1)
        return good, {}

    def _verify_blocks(self, span: ByteRange, view: memoryview) -> tuple[NDArray[np.bool_], dict[int, range]]:
        """Do as `_verify` for encoded blocks: a block is right if every row that the range holds whole is."""
        pack = self.pack
        decoded: dict[int, memoryview] = {}
        unfinished: dict[int, range] = {}
        for block in span.units.tolist():
            encoded = view[int(self._starts[block]) - span.start : int(self._stops[block]) - span.start]
            try:
                raw = decode_block(pack.layout.codec, encoded, pack.layout.block_nbytes, where=f"block {block}")
            except CorruptionError:
                continue
            decoded[block] = view_bytes(raw)
        good = np.isin(span.units, np.fromiter(decoded, np.int64, len(decoded)))
        for row, blocks in self._iter_rows_of(span.units):
            if any(block not in decoded for block in blocks):
                unfinished[row] = blocks
            elif not self._is_right(row, blocks, decoded):
                good &= ~np.isin(span.units, blocks)
        return good, unfinished

    def _list_wrong(self, arrived: NDArray[np.int64], unfinished: dict[int, range]) -> NDArray[np.int64]:
        """Return the blocks of those `unfinished` rows that are all here once `arrived` is, and are not right."""
        wrong: list[int] = []
        decoded: dict[int, memoryview] = {}
        absent = set(np.setdiff1d(self.list_absent(np.arange(self.units)), arrived).tolist()) if unfinished else set()
        for row, blocks in sorted(unfinished.items()):
            decoded = {block: raw for block, raw in decoded.items() if block in blocks}  # neighbors share a block
            if absent.isdisjoint(blocks) and not self._can_read(row, blocks, decoded):
                wrong += blocks
        return np.unique(np.array(wrong, np.int64))

    def _can_read(self, row: int, blocks: range, decoded: dict[int, memoryview]) -> bool:
        """Return whether a row matches its digest, as its blocks are on disk; adds decoded blocks to `decoded`."""
        try:
            for block in blocks:
                if block not in decoded:
                    decoded[block] = view_bytes(self.pack.decode_block(block))
        except CorruptionError:
            return False
        return self._is_right(row, blocks, decoded)

    def _iter_rows_of(self, blocks: NDArray[np.int64]) -> Iterator[tuple[int, range]]:
        """Yield the rows that lie in `blocks`, wholly or in part, and the blocks that each row takes."""
        size, last = self.pack.layout.block_nbytes, -1
        for block in blocks.tolist():
            first, stop = self._get_row_range(block * size, (block + 1) * size)
            for row in range(max(first, last + 1), stop):
                offset, nbytes = self.pack.get_span(row)
                yield row, range(offset // size, -(-(offset + nbytes) // size))
                last = row

    def _get_row_range(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first row that touches these raw bytes of the pack, and one past the last."""
        offsets, lengths = self.pack.manifest.offsets, self.pack.manifest.lengths
        if offsets is None or lengths is None:
            nbytes = self.pack.layout.unit_nbytes
            return start // nbytes, min(-(-stop // nbytes), self.pack.rows)
        ends = offsets + lengths
        return int(np.searchsorted(ends, start, "right")), int(np.searchsorted(offsets, stop, "left"))

    def _is_right(self, row: int, blocks: range, decoded: dict[int, memoryview]) -> bool:
        """Return whether a row matches its digest."""
        offset, nbytes = self.pack.get_span(row)
        size = self.pack.layout.block_nbytes
        hasher = blake3()
        for block in blocks:
            hasher.update(decoded[block][max(offset - block * size, 0) : max(offset + nbytes - block * size, 0)])
        return bool(hasher.digest() == self.pack.manifest.digests[row].tobytes())

    def _write(self, span: ByteRange, view: memoryview, units: NDArray[np.int64]) -> None:
        """Write units at their places, neighbors together; bytes between them are left alone."""
        starts, stops = self._starts[units], self._stops[units]
        cuts = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        for run in np.split(np.arange(len(units)), cuts) if len(units) else []:
            start, stop = int(starts[run[0]]), int(stops[run[-1]])
            _write_at(self._fd, view[start - span.start : stop - span.start], start)


def _overlap(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> bool:
    """Return whether one of these parts begins before the previous one ends."""
    return bool((np.diff(starts) < sizes[:-1]).any())


def _split_run(starts: NDArray[np.int64], stops: NDArray[np.int64], max_nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last unit of each part of a run; a part has at most `max_nbytes`, or one unit."""
    first = 0
    while first < len(starts):
        last = max(int(np.searchsorted(stops, starts[first] + max_nbytes, "right")) - 1, first)
        yield first, last
        first = last + 1


def _write_at(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
