"""Checks one pack against itself: its name, its files, and the digest of every chunk that is present."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stockroom.digest import PackDigest, compute_digest
from stockroom.errors import StockroomError
from stockroom.store.manifest import MANIFEST_NAME
from stockroom.store.pack import Pack
from stockroom.store.zarr_metadata import METADATA_NAME

_REPAIR = "restore it from a clone or a backup"
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing found wrong: where, what, and what mends it."""

    where: str
    what: str
    repair: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.repair}"


def list_pack_directories(packs_directory: Path) -> list[Path]:
    """The folders of all packs, in order of name."""
    return sorted(packs_directory.glob("[0-9a-f][0-9a-f]/*"))


def iter_pack_damage(directory: Path) -> Iterator[Damage]:
    """Whatever is wrong with the pack in `directory`. Absent units of a partial pack are not damage."""
    where = f"pack {directory.name}"
    try:
        manifest_bytes = (directory / MANIFEST_NAME).read_bytes()
        if compute_digest(manifest_bytes).hex() != directory.name:
            yield Damage(where, f"its {MANIFEST_NAME} file does not hash to its name", _REPAIR)
            return
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        metadata = (directory / METADATA_NAME).read_bytes()
        if compute_digest(metadata) != pack.manifest.zarr_digest:
            yield Damage(where, f"{METADATA_NAME} is not what was written", _REPAIR)
        yield from _iter_row_damage(pack, where)
        if not pack.is_raw or pack.presence is None:
            _ = pack.spans  # checks the shard's index, which reading raw rows does not need
        if pack.is_raw and pack.presence is None and not _is_padding_zero(pack):
            yield Damage(where, "the padding between its chunks is not zero", _REPAIR)
    except (StockroomError, OSError, ValueError) as error:
        yield Damage(where, str(error), _REPAIR)


def _iter_row_damage(pack: Pack, where: str) -> Iterator[Damage]:
    bad = []
    for start in range(0, pack.rows, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, pack.rows))
        if pack.presence is not None:
            absent = pack.find_absent(rows)
            rows = np.array(
                [row for row in rows if not np.isin(pack.find_units(np.array([row])), absent).any()], np.int64
            )
        for row, data in zip(rows.tolist(), pack.read_rows(rows.tolist()), strict=True):
            if compute_digest(data) != pack.manifest.digests[row].tobytes():
                bad.append(row)
    if bad:
        first = pack.manifest.digests[bad[0]].tobytes().hex()
        yield Damage(where, f"{len(bad)} of {pack.rows} chunks do not hash to their digest, the first {first}", _REPAIR)


def _is_padding_zero(pack: Pack) -> bool:
    """Whether a raw pack holds nothing but zeros between and after its rows, where no digest looks."""
    end = 0
    for row in range(pack.rows) if pack.layout.is_ragged else ():
        start, nbytes = pack.find_span(row)
        if pack.mapping[end:start].any():
            return False
        end = start + nbytes
    if not pack.layout.is_ragged:
        end = pack.rows * pack.layout.unit_nbytes
    return not pack.mapping[end : pack.body_nbytes].any()
