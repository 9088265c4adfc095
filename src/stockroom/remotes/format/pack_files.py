"""The files of a pack as they travel: their names, their sizes, and the pack's description in a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from stockroom.digest import Buffer, PackDigest
from stockroom.errors import AbsentDataError
from stockroom.remotes.format.bundle import BundlePack
from stockroom.remotes.format.paths import pack_prefix
from stockroom.remotes.transport.protocol import Transport
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import MANIFEST_NAME
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
        """Open the pack with that digest."""
        directory = locate_pack(repository.tensors.packs_directory, digest)
        zarr_json, chunks = (directory / METADATA_NAME).read_bytes(), (directory / MANIFEST_NAME).read_bytes()
        return cls(Pack(directory, digest), zarr_json, chunks)

    @property
    def digest(self) -> PackDigest:
        """The digest of the pack."""
        return self.pack.digest

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each of its files, by path on a remote."""
        prefix = pack_prefix(self.digest)
        return {
            f"{prefix}{METADATA_NAME}": len(self.zarr_json),
            f"{prefix}{MANIFEST_NAME}": len(self.chunks),
            f"{prefix}{self.pack.layout.shard_name}": self.pack.mapped_nbytes,
        }

    def iter_files(self) -> Iterator[tuple[str, Buffer]]:
        """Yield each file's path on a remote and content. Raises `AbsentDataError` if the pack is not whole."""
        if self.pack.presence is not None:
            raise AbsentDataError(
                f"pack {self.digest.hex()[:12]}: not all of it is on this machine, so it cannot be sent",
                pack=self.digest.hex(),
            )
        yield from zip(self.sizes, (self.zarr_json, self.chunks, self.pack.mapping), strict=True)

    def describe(self) -> BundlePack:
        """Return the pack's description for a bundle."""
        if self.pack.is_raw:
            return BundlePack(self.zarr_json, self.chunks, b"")
        blocks = self.pack.layout.count_blocks(self.pack.manifest.units)
        return BundlePack(self.zarr_json, self.chunks, self.pack.mapping[-index_nbytes(blocks) :])


def list_unsent(transport: Transport, packs: Sequence[LocalPack]) -> list[LocalPack]:
    """Return those of `packs` that the remote does not hold with every file at its right size.

    A few packs are listed one by one, in parallel. For many packs the remote is listed once.
    """
    if len(packs) <= _LISTS_AT_MOST:
        with ThreadPoolExecutor(_LISTS_AT_MOST) as pool:
            listings = pool.map(lambda pack: list(transport.iter_files(pack_prefix(pack.digest))), packs)
            found = {file.path: file.nbytes for listing in listings for file in listing}
    else:
        found = {file.path: file.nbytes for file in transport.iter_files("packs/")}
    return [pack for pack in packs if any(found.get(path) != nbytes for path, nbytes in pack.sizes.items())]
