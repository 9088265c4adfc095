"""Repacks a remote: joins its small packs, and leaves out the rows that its refs do not reach.

The rows travel through this machine, some packs at a time. The old packs are removed as all others that gc marks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.remotes.format.bundle import BundleWriter
from stockroom.remotes.format.pack_files import LocalPack, list_unsent
from stockroom.remotes.format.paths import pack_prefix
from stockroom.remotes.format.ref_state import BundleEntry
from stockroom.remotes.sending import send_packs
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.repository.paths import RepositoryPaths, prepare_repository
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import PACK_TARGET_NBYTES
from stockroom.store.pack.manifest import MANIFEST_NAME, read_manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.zarr_metadata import METADATA_NAME
from stockroom.store.upkeep.row_copier import PlannedPack, RowCopier

_MAX_NBYTES: Final = 16 * PACK_TARGET_NBYTES
"""How many bytes of new packs are kept on this machine at once."""
_ROW_NBYTES: Final = 512
"""A row counts as so many bytes more: its digest is kept in memory meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class RemotePack:
    """A pack of a remote to be repacked, a sparse copy of it in `folder`, and which rows, `(rows,)`, are needed."""

    planned: PlannedPack
    folder: Path
    needed: NDArray[np.bool_]


class NewPacks:
    """Packs made of the needed rows of others, in a temporary repository, until they are on the remote."""

    def __init__(self, folder: Path, transport: Transport) -> None:
        self._folder = folder
        self._transport = transport
        paths = RepositoryPaths(folder / "made")
        prepare_repository(paths)
        self._repository = Repository(paths)
        self.packs: list[LocalPack] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._repository.close()

    def make(self, old: Sequence[RemotePack]) -> list[RemotePack]:
        """Download packs one by one and copy their needed rows, verified; return the packs that can go then.

        A pack that is damaged on the remote, or gone, stays as it is.
        """
        copied: list[RemotePack] = []
        written: set[bytes] = set()
        copier = RowCopier(self._repository.tensors)
        try:
            for pack in old:
                with suppress(CorruptionError, MissingFileError):
                    opened = Pack(self._download(pack), pack.planned.digest, careful=True)
                    copier.copy(pack.planned, opened, np.flatnonzero(pack.needed), written)
                    copied.append(pack)
                shutil.rmtree(self._folder / "old", ignore_errors=True)
            copier.finish()
        finally:
            copier.close()
        self.packs = [LocalPack.open(self._repository, digest) for digest in copier.made]
        return [pack for pack in copied if pack.planned.digest not in copier.made]

    def send(self) -> None:
        """Put the packs on the remote, except those that are there."""
        send_packs(self._transport, list_unsent(self._transport, self.packs), None)

    def send_bundle(self) -> BundleEntry:
        """Put a bundle that describes the packs on the remote; return its entry."""
        writer = BundleWriter(self._folder / "bundle")
        for pack in self.packs:
            writer.add_pack(pack.digest, pack.describe())
        entry = writer.finish()
        self._transport.put(entry.path, writer.path)
        writer.path.unlink()
        return entry

    def _download(self, pack: RemotePack) -> Path:
        directory, manifest = self._folder / "old", read_manifest(pack.folder)
        directory.mkdir()
        for name in (METADATA_NAME, MANIFEST_NAME):
            shutil.copyfile(pack.folder / name, directory / name)
        name = manifest.layout.shard_name
        path = f"{pack_prefix(pack.planned.digest)}{name}"
        download_file(self._transport, path, directory / name, manifest.shard_nbytes)
        return directory


def split_packs(packs: Sequence[RemotePack]) -> Iterator[list[RemotePack]]:
    """Yield runs of packs, kind by kind, to repack at once."""
    ordered = sorted(packs, key=lambda pack: (repr(pack.planned.kind), pack.planned.number))
    nbytes = np.cumsum([pack.planned.nbytes + _ROW_NBYTES * pack.planned.rows for pack in ordered])
    starts = [0, *(np.flatnonzero(np.diff(nbytes // _MAX_NBYTES)) + 1).tolist(), len(ordered)]
    for start, stop in pairwise(starts):
        yield ordered[start:stop]
