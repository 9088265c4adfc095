"""The layout of a pack: its rows, and how they are arranged in its shard.

A uniform pack is an array `(rows, *item_shape)`. A ragged pack is a 1-D array; its rows start at multiples of 64 bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from stockroom.digest import DIGEST_NBYTES, PackDigest
from stockroom.errors import UnreadableError
from stockroom.files import refuse_unreadable
from stockroom.store.codecs import Codec
from stockroom.store.dtypes import parse_dtype

PACK_TARGET_NBYTES = 64 << 20
PACK_MAX_ROWS = 1 << 18
BLOCK_TARGET_NBYTES = 64 << 10
RAW_BLOCK_TARGET_NBYTES = 1 << 20
ROW_ALIGNMENT_NBYTES = 64

AWAY_SUFFIX = ".away"
"""Ends the name of a pack's folder that is beside its place, while another moves in."""
_PARENT_NAME = re.compile("[0-9a-f]{2}")
SHARD_NAME = "c"
"""The shard's file name is this plus `.0` for each axis: Zarr's default chunk key with `.` as separator."""


@dataclass(frozen=True, slots=True)
class PackLayout:
    """The layout of one pack. `item_shape` is None if ragged; `block_units` counts rows, or elements if ragged."""

    dtype: str
    item_shape: tuple[int, ...] | None
    codec: Codec
    block_units: int

    @property
    def is_ragged(self) -> bool:
        """Whether each row has its own length."""
        return self.item_shape is None

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return parse_dtype(self.dtype).itemsize

    @property
    def unit_nbytes(self) -> int:
        """Bytes of one row, or of one element if ragged."""
        return self.itemsize * (1 if self.item_shape is None else math.prod(self.item_shape))

    @property
    def block_nbytes(self) -> int:
        """Raw bytes of one block."""
        return self.block_units * self.unit_nbytes

    @property
    def shard_name(self) -> str:
        """The name of the pack's only chunk file."""
        return SHARD_NAME + ".0" * (1 if self.item_shape is None else 1 + len(self.item_shape))

    def count_blocks(self, units: int) -> int:
        """Return the number of blocks needed for `units` rows (elements if ragged)."""
        return -(-units // self.block_units)

    def fit_raw_blocks(self, units: int) -> PackLayout:
        """Return this layout with blocks of about 1 MiB that leave as little padding as possible after `units`."""
        blocks = max(1, round(units * self.unit_nbytes / RAW_BLOCK_TARGET_NBYTES))
        return replace(self, block_units=max(1, -(-units // blocks)))


def plan_layout(dtype: str, item_shape: tuple[int, ...] | None, codec: Codec) -> PackLayout:
    """Return the layout of a new pack, with encoded blocks of about 64 KiB."""
    layout = PackLayout(dtype, item_shape, codec, 1)
    return replace(layout, block_units=max(1, BLOCK_TARGET_NBYTES // layout.unit_nbytes))


def pack_path(digest: bytes) -> str:
    """Return `<2 hex>/<digest>`, the path of a pack's folder within the folder `packs` of a store or a remote."""
    name = digest.hex()
    return f"{name[:2]}/{name}"


def locate_pack(packs_directory: Path, digest: PackDigest) -> Path:
    """Return the folder of a pack."""
    return packs_directory / pack_path(digest)


def list_pack_directories(
    packs_directory: Path, *, on_unreadable: Callable[[UnreadableError], None] | None = None
) -> list[Path]:
    """Return the folders of all packs, sorted by name.

    A folder that cannot be listed goes to `on_unreadable`, or raises `UnreadableError`.
    """
    found: list[Path] = []
    parents = [path for path in _list_folder(packs_directory) if _PARENT_NAME.fullmatch(path.name)]
    for parent in parents:
        try:
            found += _list_folder(parent)
        except UnreadableError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
    return sorted(path for path in found if path.suffix != AWAY_SUFFIX)


def _list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        refuse_unreadable(error, folder)
        return []


def parse_pack_name(name: str) -> PackDigest | None:
    """Return the digest of the pack whose folder is called `name`, or None if no pack can be called that."""
    try:
        return PackDigest(bytes.fromhex(name)) if len(name) == 2 * DIGEST_NBYTES else None
    except ValueError:
        return None


def align_row(nbytes: int) -> int:
    """Round `nbytes` up to the start of the next row of a ragged pack."""
    return -(-nbytes // ROW_ALIGNMENT_NBYTES) * ROW_ALIGNMENT_NBYTES
