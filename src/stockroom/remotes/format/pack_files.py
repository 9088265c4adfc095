"""The files of a pack as they travel: their names, their sizes, and the pack's description in a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from stockroom.digest import Buffer, PackDigest, check_digest, view_bytes
from stockroom.errors import AbsentDataError
from stockroom.files import refuse_unreadable
from stockroom.remotes.format.bundle import BundlePack
from stockroom.remotes.format.paths import pack_prefix
from stockroom.remotes.transport.protocol import StoredFile, Transport
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import MANIFEST_NAME, Manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.shard import index_nbytes
from stockroom.store.pack.zarr_metadata import METADATA_NAME

_LISTS_AT_MOST: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class LocalPack:
    """An open pack of this repository. Its values stay right whatever happens to its folder."""

    pack: Pack
    zarr_json: bytes
    chunks: bytes

    @classmethod
    def open(cls, repository: Repository, digest: PackDigest) -> LocalPack:
        """Open the pack with that digest. The caller keeps it from being removed meanwhile (`forbid_removal`)."""
        directory = locate_pack(repository.tensors.packs_directory, digest)
        try:
            zarr_json, chunks = (directory / METADATA_NAME).read_bytes(), (directory / MANIFEST_NAME).read_bytes()
        except OSError as error:
            refuse_unreadable(error, directory)
            raise
        return cls(Pack(directory, digest), zarr_json, chunks)

    @property
    def digest(self) -> PackDigest:
        """The digest of the pack."""
        return self.pack.digest

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each of its files, by path on a remote."""
        return measure_files(self.digest, self.pack.manifest, zarr_json=self.zarr_json, chunks=self.chunks)

    def iter_files(self) -> Iterator[tuple[str, Buffer]]:
        """Yield each file's path on a remote and content, the shard last, which is not verified.

        Raises:
            AbsentDataError: the pack is not whole.
            CorruptionError: one of the small files is damaged.
        """
        if self.pack.presence is not None:
            raise AbsentDataError(
                f"pack {self.digest.hex()[:12]}: not all of it is present, so it cannot be pushed",
                pack=self.digest.hex(),
            )
        self._check_small_files()
        yield from zip(self.sizes, (self.zarr_json, self.chunks, self.pack.mapping), strict=True)

    def describe(self) -> BundlePack:
        """Return the pack's description for a bundle. Raises `CorruptionError` if a file is damaged."""
        self._check_small_files()
        if self.pack.is_raw:
            return BundlePack(self.zarr_json, self.chunks, b"")
        blocks = len(self.pack.spans)  # checks the index
        return BundlePack(self.zarr_json, self.chunks, self.pack.mapping[-index_nbytes(blocks) :])

    def _check_small_files(self) -> None:
        for name, content, expected in (
            (MANIFEST_NAME, self.chunks, self.digest),
            (METADATA_NAME, self.zarr_json, self.pack.manifest.zarr_digest),
        ):
            check_digest(content, expected, where=f"{name} of pack {self.digest.hex()}")


def measure_files(digest: PackDigest, manifest: Manifest, *, zarr_json: Buffer, chunks: Buffer) -> dict[str, int]:
    """Return the size of each file of a pack, by path on a remote, the shard last."""
    prefix = pack_prefix(digest)
    return {
        f"{prefix}{METADATA_NAME}": len(view_bytes(zarr_json)),
        f"{prefix}{MANIFEST_NAME}": len(view_bytes(chunks)),
        f"{prefix}{manifest.layout.shard_name}": manifest.shard_nbytes,
    }


def list_unsent(transport: Transport, packs: Sequence[LocalPack]) -> list[LocalPack]:
    """Return those of `packs` that the remote does not hold with every file at its right size."""
    found = list_pack_files(transport, [pack.digest for pack in packs])
    return [pack for pack in packs if not has_all(found, pack.sizes)]


def list_pack_files(transport: Transport, packs: Sequence[PackDigest]) -> dict[str, StoredFile]:
    """Return the files of packs that the remote holds, by path; perhaps those of other packs too.

    A few packs are listed one by one, in parallel. For many packs the remote is listed once.
    """
    if len(packs) > _LISTS_AT_MOST:
        return {file.path: file for file in transport.iter_files("packs/")}
    with ThreadPoolExecutor(_LISTS_AT_MOST) as pool:
        listings = pool.map(lambda digest: list(transport.iter_files(pack_prefix(digest))), packs)
        return {file.path: file for listing in listings for file in listing}


def has_all(found: Mapping[str, StoredFile], sizes: Mapping[str, int]) -> bool:
    """Return whether every file is among those found, at its right size."""
    return all(path in found and found[path].nbytes == nbytes for path, nbytes in sizes.items())
