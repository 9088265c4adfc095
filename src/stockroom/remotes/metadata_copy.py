"""A temporary copy of a remote's metadata for gc: walks the refs, and rewrites bundles without unreachable content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import CommitId, PackDigest
from stockroom.remotes.format.bundle import BundleRecord, BundleWriter, RecordKind, open_bundle
from stockroom.remotes.format.ref_state import BundleEntry, RefState
from stockroom.remotes.intake import Intake
from stockroom.remotes.remote_repack import RemotePack
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.repository.paths import RepositoryPaths, prepare_repository
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import Reachable
from stockroom.store.pack.layout import locate_pack
from stockroom.store.upkeep.repack import plan_repack

_WORTH_REWRITING: Final = 8
"""A bundle is rewritten once one byte in this many is unreachable."""


class MetadataCopy:
    """A copy of all metadata of a remote in a temporary folder: its bundles, and a repository that took them in.

    It grows with every state taken in. Whatever one of them reached counts as needed from then on.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self._transport = transport
        self._folder = folder
        self._copy = _Copy(folder / "remote", transport.url)
        self._paths = RepositoryPaths(folder / "repository")
        self._rewritten: dict[bytes, _Rewritten] = {}
        self._written: list[tuple[BundleEntry, Path]] = []
        prepare_repository(self._paths)
        self._repository = Repository(self._paths)
        self._reach = Reachable(self._repository)
        self._needed: set[CommitId] = set()
        self._packs: set[PackDigest] = set()
        self._copied: dict[PackDigest, NDArray[np.bool_]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._repository.close()

    def take_in(self, state: RefState) -> None:
        """Download the bundles of a state, and find everything its refs reach."""
        for entry in state.bundles:
            self.copy_bundle(entry)
        Intake(self._repository, self._copy, Tracking(self._paths, "remote")).take_in(state)
        packs = set(self._repository.tensors.catalog.read_packs().values())
        if packs != self._packs:  # they may hold copies of chunks that were reached before
            self._packs, self._reach = packs, Reachable(self._repository)
        self._needed.update(state.list_tips())
        self._reach.add_commits(self._needed)

    def locate(self, entry: BundleEntry) -> Path:
        """Return the path of a bundle's copy."""
        return self._copy.locate(entry)

    def keep(self, commits: Iterable[CommitId]) -> None:
        """Count commits as needed, as far as the remote has them."""
        self._needed.update(commit for commit in commits if self._repository.refs.has_commit(commit))
        self._reach.add_commits(self._needed)

    def list_live_packs(self) -> set[PackDigest]:
        """Return the packs that hold anything needed, except what has been copied into others."""
        known = self._repository.tensors.catalog.read_packs().items()
        return {pack for number, pack in known if self._is_needed(number, pack)}

    def plan_repack(self) -> list[RemotePack]:
        """Return the packs that are worth rewriting, as a repack of a repository chooses them."""
        tensors = self._repository.tensors
        plan = plan_repack(tensors, find_live=self._reach.find_live, may_be_partial=True)
        found = [(planned, self._reach.find_live(planned.number)) for planned in plan.packs]
        return [
            RemotePack(planned, locate_pack(tensors.packs_directory, planned.digest), needed.copy())
            for planned, needed in found
            if needed is not None
        ]

    def note_copied(self, packs: Sequence[RemotePack]) -> None:
        """Note that the rows of these packs that were needed are in new packs too."""
        self._copied |= {pack.planned.digest: pack.needed for pack in packs}

    def _is_needed(self, number: int, pack: PackDigest) -> bool:
        live, copied = self._reach.find_live(number), self._copied.get(pack)
        return live is not None and (copied is None or bool((live & ~copied).any()))

    def rewrite(self, state: RefState, *, dry_run: bool) -> tuple[tuple[BundleEntry, ...], int]:
        """Return the bundles of a state without unreachable records, and how many had to be rewritten for that.

        A bundle that describes an unreachable pack must be rewritten; others only if it is worth it.
        """
        packs: set[bytes] = set(self.list_live_packs())
        bundles: list[BundleEntry] = []
        count = 0
        for entry in state.bundles:
            known = self._rewritten.get(entry.digest)
            if known is None or any(self._is_reachable(kind, digest, packs) for kind, digest in known.left_out):
                known = self._rewritten[entry.digest] = self._rewrite(entry, packs, dry_run=dry_run)
            bundles += known.bundles
            count += known.bundles != (entry,)
        return tuple(bundles), count

    def put_again(self) -> None:
        """Put the rewritten bundles on the remote once more."""
        for entry, path in self._written:
            self._transport.put(entry.path, path)

    def _rewrite(self, entry: BundleEntry, packs: Collection[bytes], *, dry_run: bool) -> _Rewritten:
        with open_bundle(self._copy.locate(entry), entry, where=f"{self._transport.url}: {entry.path}") as bundle:
            left_out: list[tuple[RecordKind, bytes]] = []
            nbytes = 0
            for record in bundle.iter_records():
                if not self._is_reachable(record.kind, record.digest, packs):
                    left_out.append((record.kind, record.digest))
                    nbytes += len(record.payload)
            must = any(kind is RecordKind.PACK for kind, _ in left_out)
            if not must and nbytes * _WORTH_REWRITING < entry.nbytes:
                return _Rewritten((entry,), ())
            if dry_run:
                return _Rewritten((), ())
            gone = set(left_out)
            return _Rewritten(
                self._write(r for r in bundle.iter_records() if (r.kind, r.digest) not in gone), tuple(left_out)
            )

    def _is_reachable(self, kind: RecordKind, digest: bytes, packs: Collection[bytes]) -> bool:
        if kind is RecordKind.PACK:
            return digest in packs
        return digest in self._reach.commits or self._reach.has_object(digest)

    def _write(self, records: Iterator[BundleRecord]) -> tuple[BundleEntry, ...]:
        """Put a bundle of `records` on the remote. Return its entry, or nothing if there are no records."""
        writer = BundleWriter(self._folder / f"written{len(self._written)}")
        for record in records:
            writer.add(record.kind, record.digest, record.payload)
        if writer.is_empty:
            writer.abort()
            return ()
        entry = writer.finish()
        self._written.append((entry, writer.path))
        self._transport.put(entry.path, writer.path)
        return (entry,)

    def copy_bundle(self, entry: BundleEntry) -> None:
        """Download a bundle, unless that was done before."""
        path = self._copy.locate(entry)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        coming = self._folder / "coming"
        download_file(self._transport, entry.path, coming, entry.nbytes)
        with open_bundle(coming, entry, where=f"{self._transport.url}: {entry.path}"):
            coming.rename(path)


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """The replacement of a bundle: itself, another or none; and the records it leaves out."""

    bundles: tuple[BundleEntry, ...]
    left_out: tuple[tuple[RecordKind, bytes], ...]


class _Copy(DirectoryTransport):
    """Bundles of a remote in a folder. Messages name the remote."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self._url = url

    @property
    def url(self) -> str:
        """The URL of the remote."""
        return self._url

    def locate(self, entry: BundleEntry) -> Path:
        """Return the path of a bundle."""
        return self._root / entry.path
