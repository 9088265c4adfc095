"""Checks one pack against itself: its name, its files, and the digest of every chunk that is present."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.digest import PackDigest, compute_digest
from stockroom.errors import StockroomError
from stockroom.store.pack.manifest import MANIFEST_NAME, decode_manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.zarr_metadata import METADATA_NAME

REPAIR: Final = "run `stock fsck --repair`"
_ROWS_AT_ONCE = 1024
_PART_NBYTES = 4 << 20

Apply: TypeAlias = Callable[[Callable[[list[int]], list[int]], list[list[int]]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One problem: where, what, how to repair it, and what is known to need the damaged part."""

    where: str
    what: str
    repair: str
    needed_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        needed = f"; needed by {', '.join(self.needed_by)}" if self.needed_by else ""
        return f"{self.where}: {self.what}{needed}; {self.repair}"


@dataclass(frozen=True, slots=True, eq=False)
class PackFindings:
    """The findings of a check of one pack.

    Attributes:
        damage: all that is wrong with the pack. Absent units of a partial pack are not damage.
        bad: digests `(n, 32)` of its chunks that do not match; None if its manifest cannot be trusted.
        nbytes: bytes of its rows that were read.
    """

    damage: tuple[Damage, ...]
    bad: NDArray[np.uint8] | None
    nbytes: int


def list_pack_directories(packs_directory: Path) -> list[Path]:
    """Return the folders of all packs, sorted by name."""
    return sorted(packs_directory.glob("[0-9a-f][0-9a-f]/*"))


def iter_pack_damage(directory: Path) -> Iterator[Damage]:
    """Yield all damage of the pack in `directory`. Absent units of a partial pack are not damage."""
    yield from check_pack(directory).damage


def check_pack(directory: Path, *, read_rows: bool = True, apply: Apply = map) -> PackFindings:
    """Check the pack in `directory`; without `read_rows`, only its names and sizes.

    `apply` is `map`, or that of an executor, whose threads then hash in parallel.
    """
    where = f"pack {directory.name}"
    try:
        manifest_bytes = (directory / MANIFEST_NAME).read_bytes()
        if compute_digest(manifest_bytes).hex() != directory.name:
            what = f"its {MANIFEST_NAME} file does not hash to its name"
            return PackFindings((Damage(where, what, REPAIR),), None, 0)
    except OSError as error:
        return PackFindings((Damage(where, str(error), REPAIR),), None, 0)
    damage: list[Damage] = []
    bad: list[int] | None = None
    nbytes = 0
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        bad = []
        if not is_metadata_right(directory, pack):
            damage.append(Damage(where, f"its {METADATA_NAME} was changed", REPAIR))
        if read_rows:
            nbytes = _check_rows(pack, bad, apply)
        damage += _describe_rows(pack, where, bad)
        if not pack.is_raw or pack.presence is None:
            _ = pack.spans  # checks the shard's index, which reading raw rows does not need
        if read_rows and pack.is_raw and pack.presence is None and not _is_padding_zero(pack):
            damage.append(Damage(where, "the padding between its chunks is not zero", REPAIR))
    except (StockroomError, OSError, ValueError) as error:
        damage.append(Damage(where, str(error), REPAIR))
        return PackFindings(tuple(damage), _list_digests(manifest_bytes, directory), nbytes)
    return PackFindings(tuple(damage), pack.manifest.digests[bad], nbytes)


def mask_bad_rows(pack: Pack) -> NDArray[np.bool_]:
    """Return which rows are absent, cannot be decoded or do not match their digest, as `(rows,)`. Reads row by row."""
    bad = np.ones(pack.rows, bool)
    for row in _list_present_rows(pack, np.arange(pack.rows)).tolist():
        try:
            bad[row] = compute_digest(pack.read_row(row)) != pack.manifest.digests[row].tobytes()
        except (StockroomError, OSError, ValueError):
            continue
    return bad


def _check_rows(pack: Pack, bad: list[int], apply: Apply) -> int:
    """Append rows that do not match their digest to `bad`; returns the bytes read."""
    nbytes = 0
    for start in range(0, pack.rows, _ROWS_AT_ONCE):
        rows = _list_present_rows(pack, np.arange(start, min(start + _ROWS_AT_ONCE, pack.rows)))
        nbytes += int(pack.measure_rows(rows).sum())
        parts = _split(pack, rows)
        for found in apply(lambda part: _list_wrong(pack, part), parts):
            bad += found
    return nbytes


def _list_wrong(pack: Pack, rows: list[int]) -> list[int]:
    try:
        contents = _view_rows(pack, rows) if pack.is_raw else pack.read_rows(rows)
    except (StockroomError, OSError, ValueError):
        if len(rows) == 1:
            return rows
        return [row for one in rows for row in _list_wrong(pack, [one])]
    digests = pack.manifest.digests[rows].tobytes()
    found = b"".join([blake3(content).digest() for content in contents])
    if found == digests:
        return []
    return [row for at, row in enumerate(rows) if found[32 * at : 32 * at + 32] != digests[32 * at : 32 * at + 32]]


def _view_rows(pack: Pack, rows: list[int]) -> Sequence[Any]:
    """Return views of rows of a raw pack; small rows that follow each other are viewed all at once."""
    nbytes = 0 if pack.layout.is_ragged else pack.layout.unit_nbytes
    if not nbytes or rows[-1] - rows[0] != len(rows) - 1:
        return [pack.view_row(row) for row in rows]
    start, stop = rows[0] * nbytes, (rows[-1] + 1) * nbytes
    joined = memoryview(pack.mapping)[start:stop]  # type: ignore[arg-type]  # numpy's stubs declare no buffer
    return [joined[at : at + nbytes] for at in range(0, stop - start, nbytes)]


def _split(pack: Pack, rows: NDArray[np.int64]) -> list[list[int]]:
    """Split `rows` into runs of some MiB, to be read and hashed in parallel."""
    parts = np.cumsum(pack.measure_rows(rows)) // _PART_NBYTES
    return [part.tolist() for part in np.split(rows, np.flatnonzero(np.diff(parts)) + 1) if len(part)]


def _list_present_rows(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if pack.presence is None:
        return rows
    absent = pack.list_absent(rows)
    return np.array([row for row in rows if not np.isin(pack.list_units(np.array([row])), absent).any()], np.int64)


def _describe_rows(pack: Pack, where: str, bad: list[int]) -> Iterator[Damage]:
    if bad:
        first = pack.manifest.digests[bad[0]].tobytes().hex()
        what = f"{len(bad)} of {pack.rows} chunks are unreadable or do not match their digests (first {first})"
        yield Damage(where, what, REPAIR)


def is_metadata_right(directory: Path, pack: Pack) -> bool:
    """Return whether a pack's `zarr.json` has the digest that its manifest names."""
    try:
        return compute_digest((directory / METADATA_NAME).read_bytes()) == pack.manifest.zarr_digest
    except OSError:
        return False


def _list_digests(manifest_bytes: bytes, directory: Path) -> NDArray[np.uint8] | None:
    try:
        return decode_manifest(manifest_bytes, where=str(directory)).digests
    except StockroomError:
        return None


def _is_padding_zero(pack: Pack) -> bool:
    """Return whether a raw pack holds only zeros between and after its rows, which no digest covers."""
    end = 0
    for row in range(pack.rows) if pack.layout.is_ragged else ():
        start, nbytes = pack.get_span(row)
        if pack.mapping[end:start].any():
            return False
        end = start + nbytes
    if not pack.layout.is_ragged:
        end = pack.rows * pack.layout.unit_nbytes
    return not pack.mapping[end : pack.body_nbytes].any()
