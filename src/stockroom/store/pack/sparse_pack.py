"""Makes the local mirror of a pack on a remote: all of it but its rows, which are not here yet, or no longer.

Bytes from a remote are checked before any file is made: the manifest against the pack's digest, `zarr.json` against the
manifest, and the shard's index against the sizes that the manifest allows.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np

from stockroom.digest import Buffer, PackDigest, check_digest, view_bytes
from stockroom.errors import MalformedRecordError, malformed
from stockroom.files import exchange, write_own_file
from stockroom.store.chunking import CHUNK_MAX_NBYTES
from stockroom.store.codecs import Codec
from stockroom.store.pack.layout import BLOCK_TARGET_NBYTES, locate_pack
from stockroom.store.pack.manifest import MANIFEST_NAME, Manifest, decode_manifest, read_manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.presence import PresenceMap
from stockroom.store.pack.shard import decode_index, encode_index, index_nbytes
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.pack.zarr_metadata import METADATA_NAME

_ENCODING_OVERHEAD_NBYTES = 1024
_MAX_BLOCKS_A_ROW = 2 * CHUNK_MAX_NBYTES // BLOCK_TARGET_NBYTES
_malformed = partial(malformed, advice="the remote is damaged")


def create_sparse_pack(
    packs_directory: Path,
    writer_folder: Path,
    digest: PackDigest,
    *,
    zarr_json: Buffer,
    chunks: Buffer,
    index: Buffer,
    where: str,
) -> Manifest:
    """Create the folder of pack `digest`, synced and all absent, unless it is there; returns its manifest.

    Args:
        writer_folder: a writer's own folder (`create_writer_folder`), on the file system of the packs.
        zarr_json: the pack's metadata file.
        chunks: the pack's manifest file.
        index: the last bytes of its shard; empty for a raw pack, whose index follows from its layout.
        where: the origin of these bytes, for errors.

    Raises:
        CorruptionError: something does not match the pack's digest, or its sizes are impossible.
    """
    check_digest(chunks, digest, where=f"{where}, chunk list of pack {digest.hex()}")
    manifest = decode_manifest(chunks, where=f"{where}, chunk list of pack {digest.hex()}")
    target = locate_pack(packs_directory, digest)
    if _is_whole_folder(target):
        return manifest
    check_digest(zarr_json, manifest.zarr_digest, where=f"{where}, {METADATA_NAME} of pack {digest.hex()}")
    tail = _check_index(manifest, index, where=f"{where}, shard index of pack {digest.hex()}")
    _publish(build_sparse_pack(writer_folder, digest, manifest, zarr_json=zarr_json, chunks=chunks, tail=tail), target)
    return manifest


def build_sparse_pack(
    writer_folder: Path, digest: PackDigest, manifest: Manifest, *, zarr_json: Buffer, chunks: Buffer, tail: bytes
) -> Path:
    """Create a synced folder of a pack's files in `writer_folder`, without its rows; `tail` ends its shard."""
    directory = writer_folder / f"sparse-{digest.hex()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    write_own_file(directory / MANIFEST_NAME, view_bytes(chunks), sync=True)
    write_own_file(directory / METADATA_NAME, view_bytes(zarr_json), sync=True)
    _write_sparse_shard(directory / manifest.layout.shard_name, manifest.shard_nbytes, tail)
    PresenceMap.create(directory, count_units(manifest))
    return directory


def hollow_out(root: Path, digest: PackDigest) -> None:
    """Replace pack `digest` of the store in `root` by a sparse folder, with every unit absent.

    The two folders are exchanged in one step: a reader, or a kill, meets one or the other. The caller must keep the
    pack from being filled meanwhile, and must know a remote that can restore it.
    """
    target = locate_pack(root / "packs", digest)
    pack = Pack(target, digest)
    with open_writer_folder(root / "tmp") as folder:
        tail_nbytes = index_nbytes(pack.layout.count_blocks(pack.manifest.units))
        folder = build_sparse_pack(
            folder,
            digest,
            pack.manifest,
            zarr_json=(target / METADATA_NAME).read_bytes(),
            chunks=(target / MANIFEST_NAME).read_bytes(),
            tail=bytes(pack.mapping[pack.mapped_nbytes - tail_nbytes :]),
        )
        exchange(folder, target)


def count_units(manifest: Manifest) -> int:
    """Return the number of units of a pack: rows if it is raw, else blocks."""
    if manifest.layout.codec is Codec.RAW:
        return manifest.rows
    return manifest.layout.count_blocks(manifest.units)


def _is_whole_folder(target: Path) -> bool:
    """Return whether the pack's folder has all its files, judging by names and the shard's size."""
    try:
        manifest = read_manifest(target)
        return (target / METADATA_NAME).exists() and (
            (target / manifest.layout.shard_name).stat().st_size == manifest.shard_nbytes
        )
    except (OSError, MalformedRecordError):
        return False


def _check_index(manifest: Manifest, index: Buffer, *, where: str) -> bytes:
    """Return the shard's last bytes: as given, or computed from the layout for a raw pack."""
    layout = manifest.layout
    blocks = layout.count_blocks(manifest.units)
    if blocks > _MAX_BLOCKS_A_ROW * manifest.rows:
        raise _malformed(where, f"at most {_MAX_BLOCKS_A_ROW} blocks per row", str(blocks))
    body_nbytes = manifest.shard_nbytes - index_nbytes(blocks)
    raw_nbytes = blocks * layout.block_nbytes
    if layout.codec is Codec.RAW:
        if body_nbytes != raw_nbytes:
            raise _malformed(where, f"a shard of {raw_nbytes + index_nbytes(blocks)} bytes", str(manifest.shard_nbytes))
        starts = np.arange(blocks, dtype=np.uint64) * np.uint64(layout.block_nbytes)
        return encode_index(np.stack([starts, np.full(blocks, layout.block_nbytes, np.uint64)], axis=1))
    tail = bytes(view_bytes(index))
    if not 0 <= body_nbytes <= raw_nbytes + blocks * _ENCODING_OVERHEAD_NBYTES:
        raise _malformed(where, f"a shard of at most about {raw_nbytes} bytes", str(manifest.shard_nbytes))
    if len(tail) != index_nbytes(blocks):
        raise _malformed(where, f"{index_nbytes(blocks)} bytes", str(len(tail)))
    decode_index(tail, body_nbytes=body_nbytes, where=where)
    return tail


def _write_sparse_shard(path: Path, nbytes: int, tail: bytes) -> None:
    with path.open("xb") as file:
        file.truncate(nbytes)
        file.seek(nbytes - len(tail))
        file.write(tail)
        file.flush()
        os.fsync(file.fileno())


def _publish(directory: Path, target: Path) -> None:
    """Move a finished folder to `target`; a folder there that lacks a file is moved aside."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        if _is_whole_folder(target):  # another process was faster
            shutil.rmtree(directory, ignore_errors=True)
        else:
            target.rename(directory.with_name(f"{directory.name}-broken"))
            directory.rename(target)
    fd = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
