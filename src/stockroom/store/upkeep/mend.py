"""Mends packs: rebuilds files that follow from the rest, keeps the sound rows, and moves damaged packs aside.

Nothing is deleted here. A pack that cannot be mended ends up, unchanged, in a separate folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stockroom.digest import PackDigest, compute_digest
from stockroom.errors import StockroomError
from stockroom.files import replace_own_file
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import MANIFEST_NAME
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.sparse_pack import count_units
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.pack.zarr_metadata import METADATA_NAME, encode_zarr_metadata
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.verify import check_pack, is_metadata_right, mask_bad_rows


def remake_metadata(directory: Path) -> bool:
    """Rewrite a pack's `zarr.json`, which its manifest determines; returns whether the pack is whole afterwards."""
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        metadata = encode_zarr_metadata(pack.layout, pack.manifest.units)
        if compute_digest(metadata) != pack.manifest.zarr_digest or is_metadata_right(directory, pack):
            return False
        replace_own_file(directory / METADATA_NAME, metadata, sync=True)
    except (StockroomError, OSError):
        return False
    return not check_pack(directory).damage


def clear_presence(directory: Path) -> bool:
    """Mark units of a partial pack absent if their digests do not match; returns whether the pack is sound afterwards.

    The map is changed in place: the agent that fills the pack has it open.
    """
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        if pack.presence is None:
            return False
        presence = PresenceMap.open(directory, count_units(pack.manifest), writable=True)
        presence.clear(pack.list_units(np.flatnonzero(mask_bad_rows(pack))))
    except (StockroomError, OSError, ValueError):
        return False
    return not check_pack(directory).damage


def remake_presence(directory: Path, tmp_directory: Path) -> bool:
    """Rebuild a partial pack's unreadable map from the rows that match their digests; returns whether it is sound."""
    digest = PackDigest(bytes.fromhex(directory.name))
    with open_writer_folder(tmp_directory) as folder:
        copy = folder / directory.name
        copy.mkdir()
        try:
            for file in directory.iterdir():
                if file.name != PRESENCE_NAME:
                    os.link(file, copy / file.name)
            pack = Pack(copy, digest)
            bad = mask_bad_rows(pack)
            presence = PresenceMap.create(copy, count_units(pack.manifest))
            good_units, bad_units = (pack.list_units(np.flatnonzero(rows)) for rows in (~bad, bad))
            presence.add(np.setdiff1d(good_units, bad_units))
            (copy / PRESENCE_NAME).replace(directory / PRESENCE_NAME)
        except (StockroomError, OSError, ValueError):
            return False
    return not check_pack(directory).damage


def salvage_rows(store: TensorStore, directory: Path) -> tuple[int, int]:
    """Put the sound rows of a damaged pack into new packs; returns their number, and that of all its rows."""
    digest = PackDigest(bytes.fromhex(directory.name))
    if compute_digest((directory / MANIFEST_NAME).read_bytes()) != digest:
        return 0, 0
    pack = Pack(directory, digest)
    good = np.flatnonzero(~mask_bad_rows(pack)).tolist()
    layout = pack.layout
    stream = Stream(layout.dtype, layout.item_shape, str(layout.codec))
    writer = TensorWriter(store)
    try:
        writer.avoid([digest], lambda _: None)
        for row in good:
            writer.put_row(bytes(pack.read_row(row)), stream)
        writer.flush()
    finally:
        writer.close()
    return len(good), pack.rows


def set_aside(store: TensorStore, digest: PackDigest, aside: Path) -> Path | None:
    """Move a pack from the store into the folder `aside`; returns its new path, or None if it was not on disk."""
    numbers = [number for number, known in store.catalog.read_packs().items() if known == digest]
    directory = locate_pack(store.packs_directory, digest)
    with lock_packs(store.packs_directory, alone=True):
        store.index.unregister(numbers)
        store.cache.forget()
        if not directory.exists():
            return None
        target = choose_free_name(aside, directory.name)
        directory.rename(target)
        return target


def choose_free_name(folder: Path, name: str) -> Path:
    """Return a free path in `folder`, called `name` or nearly so; creates the folder if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path
