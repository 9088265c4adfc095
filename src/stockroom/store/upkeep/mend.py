"""Mends packs: rebuilds files that follow from the rest, keeps the sound rows, and moves damaged packs aside.

Nothing is deleted here. A pack that cannot be mended ends up, unchanged, in a separate folder. If something cannot be
read, functions raise `UnreadableError`, and the pack stays where it is: it may be sound.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from stockroom.digest import PackDigest, compute_digest
from stockroom.errors import CorruptionError, UnreadableError
from stockroom.files import exists, make_folder, replace_own_file, sync_path
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.exchange import exchange_packs
from stockroom.store.pack.layout import locate_pack, parse_pack_name
from stockroom.store.pack.manifest import MANIFEST_NAME, read_manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_folder import read_file
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.sparse_pack import count_units
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.pack.zarr_metadata import METADATA_NAME, encode_zarr_metadata
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.verify import check_pack, is_metadata_right, mask_bad_rows

_ROWS_AT_ONCE: Final = 16
"""Rows of one block are decoded together; a row has at most 4 MiB."""


def remake_metadata(directory: Path) -> bool:
    """Rewrite a pack's `zarr.json`, which its manifest determines; returns whether the pack is whole afterwards."""
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)), careful=True)
        metadata = encode_zarr_metadata(pack.layout, pack.manifest.units)
        if compute_digest(metadata) != pack.manifest.zarr_digest or is_metadata_right(directory, pack):
            return False
    except CorruptionError:
        return False
    replace_own_file(directory / METADATA_NAME, metadata)
    return _is_sound(directory)


def clear_presence(directory: Path) -> bool:
    """Mark units of a partial pack absent if their digests do not match; returns whether the pack is sound afterwards.

    The map is changed in place: the agent that fills the pack has it open.
    """
    try:
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)), careful=True)
        if pack.presence is None:
            return False
        presence = PresenceMap.open(directory, count_units(pack.manifest), writable=True)
        bad_units = pack.list_units(np.flatnonzero(mask_bad_rows(pack)))
    except CorruptionError:
        return False
    if presence.file != pack.files.presence:
        return False
    presence.clear(bad_units)
    return _is_sound(directory)


def remake_presence(directory: Path, tmp_directory: Path) -> bool:
    """Rebuild a partial pack's unreadable map from the rows that match their digests; returns whether it is sound."""
    digest = PackDigest(bytes.fromhex(directory.name))
    with open_writer_folder(tmp_directory) as folder:
        copy = folder / directory.name
        copy.mkdir()
        for file in directory.iterdir():
            if file.name != PRESENCE_NAME:
                os.link(file, copy / file.name)
        try:
            pack = Pack(copy, digest, careful=True)
            bad = mask_bad_rows(pack)
            good_units, bad_units = (pack.list_units(np.flatnonzero(rows)) for rows in (~bad, bad))
        except CorruptionError:
            return False
        presence = PresenceMap.create(copy, count_units(pack.manifest))
        presence.add(np.setdiff1d(good_units, bad_units))
        with lock_packs(directory.parent.parent, alone=True):  # the agent must not be removing the old one
            (copy / PRESENCE_NAME).replace(directory / PRESENCE_NAME)
    return _is_sound(directory)


def _is_sound(directory: Path) -> bool:
    """Return whether a pack is sound. Raises `UnreadableError` if that cannot be known."""
    findings = check_pack(directory)
    if findings.unchecked and not findings.damage:
        raise UnreadableError("; ".join(item.why for item in findings.unchecked), where=str(directory))
    return findings.is_sound


def salvage_rows(store: TensorStore, directory: Path) -> tuple[int, int]:
    """Put the sound rows of a damaged pack into new packs; returns their number, and that of all its rows.

    Raises `UnreadableError` if a row cannot be read: it may be sound.
    """
    digest = PackDigest(bytes.fromhex(directory.name))
    try:
        if compute_digest(read_file(directory, MANIFEST_NAME)) != digest:
            return 0, 0
        pack = Pack(directory, digest, careful=True)
    except CorruptionError:
        return 0, 0
    good = np.flatnonzero(~mask_bad_rows(pack)).tolist()
    layout = pack.layout
    stream = Stream(layout.dtype, layout.item_shape, str(layout.codec))
    writer = TensorWriter(store)
    try:
        writer.avoid([digest], lambda _: None)
        for start in range(0, len(good), _ROWS_AT_ONCE):
            for data in pack.read_rows(good[start : start + _ROWS_AT_ONCE]):
                writer.put_row(bytes(data), stream)
        writer.flush()
    finally:
        writer.close()
    return len(good), pack.rows


def set_aside(store: TensorStore, digest: PackDigest, aside: Path) -> Path | None:
    """Move a pack from the store into the folder `aside`; returns its new path, or None if it was not on disk."""
    numbers = [number for number, known in store.catalog.read_packs().items() if known == digest]
    directory = locate_pack(store.packs_directory, digest)
    with lock_packs(store.packs_directory, alone=True):
        target = choose_free_name(aside, directory.name) if exists(directory) else None
        store.index.unregister(numbers)
        store.cache.forget()
        if target is not None:
            directory.rename(target)
        return target


def bring_back(store: TensorStore, aside: Path) -> list[PackDigest]:
    """Move packs in the folder `aside` that are sound back to their places, unless they are whole there; returns them.

    They were taken out for a reason that has passed, such as a failing cable.
    """
    back: list[PackDigest] = []
    for directory in sorted(aside.iterdir()) if aside.is_dir() else []:
        digest = parse_pack_name(directory.name.partition("-")[0])
        if digest is not None and check_pack(directory, digest=digest).is_sound:
            manifest = read_manifest(directory)
            if _put_in_place(directory, locate_pack(store.packs_directory, digest)):
                store.cache.forget()
                store.register([(digest, manifest)])
                back.append(digest)
    return back


def _put_in_place(directory: Path, target: Path) -> bool:
    """Move a sound pack to `target`, or exchange it for a pack there that has less; returns whether it did."""
    with lock_packs(target.parent.parent, alone=True):
        if not exists(target):
            target.parent.mkdir(exist_ok=True)
            directory.rename(target)
        elif exists(target / PRESENCE_NAME) and not exists(directory / PRESENCE_NAME):
            exchange_packs(directory, target)
        else:
            return False
        sync_path(target.parent)
    return True


def choose_free_name(folder: Path, name: str) -> Path:
    """Return a free path in `folder`, called `name` or nearly so; creates the folder if need be."""
    make_folder(folder)
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path
