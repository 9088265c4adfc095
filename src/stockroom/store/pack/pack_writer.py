"""Writes one pack from rows and digests: `seal` completes its folder, `publish` syncs and renames it to its digest."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, Buffer, PackDigest, compute_digest, view_bytes
from stockroom.files import give_to_owner, make_folder, sync_path
from stockroom.store.codecs import Codec
from stockroom.store.pack.exchange import exchange_packs
from stockroom.store.pack.layout import PACK_MAX_ROWS, PACK_TARGET_NBYTES, PackLayout, align_row, plan_layout
from stockroom.store.pack.manifest import MANIFEST_NAME, Manifest, decode_manifest
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.pack.shard_writer import ShardWriter
from stockroom.store.pack.zarr_metadata import METADATA_NAME, encode_zarr_metadata


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A finished pack: its folder, still under a temporary name, its digest and its manifest."""

    directory: Path
    digest: PackDigest
    manifest: Manifest


class PackWriter:
    """One pack being written; ragged if `item_shape` is None. Large writes go through `executor`."""

    def __init__(
        self, directory: Path, *, dtype: str, item_shape: tuple[int, ...] | None, codec: str, executor: Executor
    ) -> None:
        make_folder(directory)
        self.directory = directory
        self._layout = plan_layout(dtype, item_shape, Codec.RAW)
        self._shard = ShardWriter(directory / self._layout.shard_name, self._layout, codec, executor=executor)
        self._rows: dict[bytes, int] = {}
        self._offsets = array("Q")
        self._lengths = array("Q")

    @property
    def rows(self) -> int:
        """Rows taken so far."""
        return len(self._rows)

    @property
    def digests(self) -> Collection[bytes]:
        """The digests of the rows taken so far, in order."""
        return self._rows.keys()

    @property
    def nbytes(self) -> int:
        """Raw bytes taken so far, alignment included."""
        return self._shard.nbytes

    def count_room(self, row_nbytes: int) -> int:
        """Return how many more rows of `row_nbytes` fit into this pack; at least one if it is empty."""
        room = min((PACK_TARGET_NBYTES - self.nbytes) // max(row_nbytes, 1), PACK_MAX_ROWS - self.rows)
        return max(room, 0 if self.rows else 1)

    def append_row(self, data: Buffer, digest: bytes) -> None:
        """Append one chunk, which the pack must not have yet."""
        self._rows[digest] = self.rows
        if not self._layout.is_ragged:
            self._shard.write(data)
            return
        nbytes = len(view_bytes(data))
        self._offsets.append(self._shard.nbytes)
        self._lengths.append(nbytes)
        self._shard.write(data)
        self._shard.write(bytes(align_row(nbytes) - nbytes))

    def append_rows(self, rows: NDArray[np.uint8], digests: Sequence[bytes]) -> None:
        """Append the rows of a C-contiguous `(n, row_nbytes)` array; the pack must not have any of them yet.

        Uniform packs only. The array must not change before `wait`.
        """
        assert not self._layout.is_ragged
        self._rows.update(zip(digests, range(self.rows, self.rows + len(digests)), strict=True))
        self._shard.write(rows.reshape(-1))

    def wait(self) -> None:
        """Wait until the writer no longer reads the caller's memory."""
        self._shard.wait()

    def rest(self) -> None:
        """Close the file until more is appended or read."""
        self._shard.rest()

    def find_row(self, digest: bytes) -> bytes | None:
        """Return the raw bytes of a chunk appended earlier, or None."""
        row = self._rows.get(digest)
        if row is None:
            return None
        if self._layout.is_ragged:
            return self._shard.read(self._offsets[row], self._lengths[row])
        nbytes = self._layout.unit_nbytes
        return self._shard.read(row * nbytes, nbytes)

    def seal(self) -> SealedPack:
        """Finish the files without syncing them, and parse back the manifest."""
        units = self._shard.nbytes // self._layout.itemsize if self._layout.is_ragged else self.rows
        layout = self._finish_layout(units)
        shard_nbytes = self._shard.finish(layout, units)
        metadata = encode_zarr_metadata(layout, units)
        (self.directory / METADATA_NAME).write_bytes(metadata)
        manifest = self._build_manifest(layout, units, shard_nbytes, compute_digest(metadata))
        encoded = manifest.encode()
        (self.directory / MANIFEST_NAME).write_bytes(encoded)
        parsed = decode_manifest(encoded, where=str(self.directory))
        return SealedPack(self.directory, PackDigest(compute_digest(encoded)), parsed)

    def abort(self) -> None:
        """Remove everything this writer wrote."""
        self._shard.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def publish(self, sealed: SealedPack, target: Path) -> None:
        """Sync the sealed pack and move it to `target`; a whole pack already there is kept instead, if its files fit.

        A sparse pack at `target` is replaced: its remote may no longer be reachable.

        Each file is synced, then, once, the parent of `target`. On file systems that keep their metadata in order
        (ext4, XFS, btrfs, APFS), that brings everything done before to disk: the names in the pack's own folder, its
        rename, and its parent if that is new.
        """
        self._shard.sync()
        self._shard.close()
        for name in (METADATA_NAME, MANIFEST_NAME):
            sync_path(sealed.directory / name)
            give_to_owner(sealed.directory / name)
        make_folder(target.parent)
        try:
            sealed.directory.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            if _is_broken(target, sealed):
                target.rename(sealed.directory.with_name(f"{sealed.directory.name}-broken"))
                sealed.directory.rename(target)
            elif (target / PRESENCE_NAME).exists():
                exchange_packs(sealed.directory, target)
            shutil.rmtree(sealed.directory, ignore_errors=True)
        sync_path(target.parent)

    def _finish_layout(self, units: int) -> PackLayout:
        self._shard.resolve_codec()
        assert self._shard.codec is not None
        layout = replace(self._layout, codec=self._shard.codec)
        return layout.fit_raw_blocks(units) if layout.codec is Codec.RAW else layout

    def _build_manifest(self, layout: PackLayout, units: int, shard_nbytes: int, zarr_digest: bytes) -> Manifest:
        digests = np.frombuffer(b"".join(self._rows), np.uint8).reshape(-1, DIGEST_NBYTES)
        ragged = layout.is_ragged
        offsets = np.array(self._offsets, np.uint64) if ragged else None
        lengths = np.array(self._lengths, np.uint64) if ragged else None
        return Manifest(layout, units, shard_nbytes, zarr_digest, digests, offsets, lengths)


def _is_broken(target: Path, sealed: SealedPack) -> bool:
    """Return whether the pack at `target`, with the digest of `sealed`, lacks a file or has a damaged one."""
    try:
        for name in (METADATA_NAME, MANIFEST_NAME):
            if (target / name).read_bytes() != (sealed.directory / name).read_bytes():
                return True
        return (target / sealed.manifest.layout.shard_name).stat().st_size != sealed.manifest.shard_nbytes
    except FileNotFoundError:
        return True
