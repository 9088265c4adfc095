"""A location table: an immutable array, sorted by digest prefix, that maps prefixes to locations.

| offset | size | field |
|---|---|---|
| 0 | 8 | magic `SRLOCTAB` |
| 8 | 8 | version, u64 = 1 |
| 16 | 8 | rows, u64 |
| 24 | 8 x rows | digest prefixes: the first 8 bytes as a big-endian number, stored little-endian, ascending |
| ... | 8 x rows | locations, u64: pack number in the high 32 bits, row in the low 32 |
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import malformed
from stockroom.files import refuse_unreadable

_HEADER = struct.Struct("<8sQQ")
_MAGIC = b"SRLOCTAB"
_VERSION = 1
_malformed = partial(
    malformed,
    expected="a location table",
    found="something else",
    advice="delete the index folder to rebuild it",
)
_SPAN_ROWS = 1 << 20
ROW_BITS = np.uint64(32)
ROW_MASK = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class LocationTable:
    """Prefixes `(rows,)` u64, ascending, and their locations `(rows,)` u64."""

    prefixes: NDArray[np.uint64]
    locations: NDArray[np.uint64]
    mapped: mmap.mmap | None = None
    """The map of its file, of which the arrays are views."""

    @property
    def rows(self) -> int:
        """Number of chunks located."""
        return len(self.prefixes)

    def encode(self) -> bytes:
        """Return the bytes of the table."""
        return encode_header(self.rows) + self.prefixes.astype("<u8").tobytes() + self.locations.astype("<u8").tobytes()

    def release(self) -> None:
        """Return the pages read so far to the system, which keeps them as long as it has room."""
        if self.mapped is not None:
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def find(self, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the first row of each wanted prefix, or `rows` if there is none."""
        # In order: the searches then walk through the table instead of jumping about in it.
        order = np.argsort(wanted)
        index = np.empty(len(wanted), np.int64)
        index[order] = np.searchsorted(self.prefixes, wanted[order])
        inside = np.minimum(index, max(self.rows - 1, 0))
        hit = (index < self.rows) & (self.prefixes[inside] == wanted) if self.rows else np.zeros(len(wanted), bool)
        return np.where(hit, index, self.rows)


def encode_header(rows: int) -> bytes:
    """Return the first bytes of a table of this many rows."""
    return _HEADER.pack(_MAGIC, _VERSION, rows)


def iter_spans(rows: int) -> Iterator[slice]:
    """Yield the rows of a table in spans of bounded length."""
    for start in range(0, rows, _SPAN_ROWS):
        yield slice(start, min(start + _SPAN_ROWS, rows))


def iter_matches(
    tables: Sequence[LocationTable], digests: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
    """Yield batches of `(positions in digests, locations)`: rows whose prefix is that of a digest, newest table first.

    `tables` come oldest first. A position is repeated as long as further rows share its prefix.
    """
    wanted = compute_prefixes(digests)
    for table in reversed(tables):
        index = table.find(wanted)
        found = np.flatnonzero(index < table.rows)
        while len(found):
            yield found, table.locations[index[found]]
            index[found] += 1
            inside = found[index[found] < table.rows]
            found = inside[table.prefixes[index[inside]] == wanted[inside]]


def compute_prefixes(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the sort keys of `(n, 32)` digests."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def pack_locations(number: int, rows: int) -> NDArray[np.uint64]:
    """Return the locations of all rows of pack `number`."""
    return (np.uint64(number) << ROW_BITS) | np.arange(rows, dtype=np.uint64)


def sort_table(prefixes: NDArray[np.uint64], locations: NDArray[np.uint64]) -> LocationTable:
    """Return a table of these entries, sorted; equal prefixes keep their order."""
    order = np.argsort(prefixes, kind="stable")
    return LocationTable(prefixes[order], locations[order])


def merge_tables(tables: Sequence[LocationTable]) -> LocationTable:
    """Merge tables into one, newest table first among equal prefixes."""
    newest_first = list(tables[::-1]) or [LocationTable(np.empty(0, np.uint64), np.empty(0, np.uint64))]
    prefixes = np.concatenate([table.prefixes for table in newest_first])
    return sort_table(prefixes, np.concatenate([table.locations for table in newest_first]))


def decode_table(data: bytes | mmap.mmap, *, where: str) -> LocationTable:
    """Decode a table as views; raises `MalformedRecordError` naming `where` if it is malformed."""
    if len(data) < _HEADER.size:
        raise _malformed(where)
    magic, version, rows = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or rows >= 1 << 40 or len(data) != _HEADER.size + 16 * rows:
        raise _malformed(where)
    prefixes = np.frombuffer(data, "<u8", rows, _HEADER.size)
    locations = np.frombuffer(data, "<u8", rows, _HEADER.size + 8 * rows)
    return LocationTable(prefixes, locations, data if isinstance(data, mmap.mmap) else None)


def read_table(path: Path) -> LocationTable:
    """Map the table in a file. Raises `FileNotFoundError` if there is none, `UnreadableError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise _malformed(str(path)) from error
    except OSError as error:
        refuse_unreadable(error, path)
        raise
    return decode_table(mapped, where=str(path))
