"""Checks that a remote holds everything that its newest ref state needs: bundles, history, and every byte of packs.

Reads only, and keeps nothing. Damage in one part does not affect the findings about others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, RemoteError
from stockroom.remotes.format.bundle import RecordKind, decode_pack_files, open_bundle
from stockroom.remotes.format.pack_files import measure_files
from stockroom.remotes.format.ref_state import BundleEntry, RefState
from stockroom.remotes.metadata_copy import MetadataCopy
from stockroom.remotes.pack_copy import PUSH_REPAIR, check_copy, check_files
from stockroom.remotes.ref_state_log import download_marks, find_following_state, find_state, get_newest_state
from stockroom.remotes.settings import open_transport_of
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.verify import VerifyReport, VerifyScope
from stockroom.store.pack.manifest import decode_manifest
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.upkeep.verify import Damage

_THREADS: Final = 8


@dataclass(slots=True)
class RemoteFindings:
    """The findings of a check: the state that was checked, the report, and the damaged packs.

    `is_metadata_whole` says whether the bundles hold everything that the state's refs reach, and its marks are there.
    """

    state: RefState
    report: VerifyReport = field(default_factory=VerifyReport)
    packs: set[PackDigest] = field(default_factory=set)
    is_metadata_whole: bool = True


def verify_remote(
    repository: Repository,
    remote: str,
    *,
    scope: VerifyScope | None = None,
    transport: Transport | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check a remote. Downloads its metadata, and the packs that `scope` chooses.

    Raises `RemoteError` if the remote does not answer, or nothing was ever pushed there.
    """
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    if isinstance(transport, WorkingRepositoryTransport):
        raise RemoteError(f"{transport.url}: is a repository that somebody works in: run `stock fsck` there")
    tracking = Tracking(repository.paths, remote)
    return check_remote(repository, transport, tracking, scope=scope, on_progress=on_progress).report


def check_remote(
    repository: Repository,
    transport: Transport,
    tracking: Tracking,
    *,
    scope: VerifyScope | None = None,
    only: Collection[PackDigest] | None = None,
    verified: Collection[PackDigest] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> RemoteFindings:
    """Check the newest state of a remote. Reads the packs that `scope` chooses (None: all), of those in `only`.

    Packs that are `verified` by other means are not read.

    If something looks damaged and others have published a newer state, it starts again from that one: gc may have
    removed things that only the older state needs.
    """
    state = get_newest_state(transport, tracking.read_state())
    while True:
        with (
            open_writer_folder(repository.tensors.tmp_directory) as folder,
            MetadataCopy(folder, transport) as metadata,
            ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="verify") as pool,
        ):
            check = _Check(transport, metadata, folder, RemoteFindings(state), pool)
            check.check_metadata()
            check.check_packs(scope or VerifyScope(), only, verified, on_progress)
        newer = None if check.findings.report.ok else find_following_state(transport, state)
        if newer is None:
            return check.findings
        state = newer


@dataclass(slots=True)
class _Check:
    """One check of one state. `_described` has the sizes of the files of each pack that a readable bundle describes."""

    _transport: Transport
    _metadata: MetadataCopy
    _folder: Path
    findings: RemoteFindings
    _pool: ThreadPoolExecutor
    _described: dict[PackDigest, Mapping[str, int]] = field(default_factory=dict)

    def check_metadata(self) -> None:
        """Check state, bundles and marks, and then that the bundles hold everything that the refs reach."""
        state, report = self.findings.state, self.findings.report
        if find_state(self._transport, state.number) != state:
            report.damage.append(
                Damage(f"ref state {state.number}", "differs from the one seen there before", PUSH_REPAIR)
            )
        sizes = {file.path: file.nbytes for file in self._transport.iter_files("bundles/")}
        for entry in state.bundles:
            try:
                if sizes.get(entry.path) != entry.nbytes:
                    raise CorruptionError(
                        f"{self._transport.url}: {entry.path}: expected {entry.nbytes} bytes, found "
                        f"{sizes.get(entry.path, 'no file')}"
                    )
                self._metadata.copy_bundle(entry)
                self._read_descriptions(entry)
            except (CorruptionError, MissingFileError) as error:
                self._note_metadata(f"bundle {entry.digest.hex()}", error)
            report.objects += entry.objects
            report.commits += entry.commits
        try:
            if state.marks is not None:
                download_marks(self._transport, state.marks)
        except (CorruptionError, MissingFileError) as error:
            self._note_metadata("marks", error)
        if self.findings.is_metadata_whole:
            try:
                self._metadata.take_in(state)
            except CorruptionError as error:
                self._note_metadata(f"state {state.number}", error)

    def _note_metadata(self, where: str, error: Exception) -> None:
        self.findings.is_metadata_whole = False
        self.findings.report.damage.append(Damage(where, str(error), PUSH_REPAIR))

    def _read_descriptions(self, entry: BundleEntry) -> None:
        where = f"{self._transport.url}: {entry.path}"
        with open_bundle(self._metadata.locate(entry), entry, where=where) as bundle:
            for record in bundle.iter_records():
                if record.kind is RecordKind.PACK:
                    files, digest = decode_pack_files(record.payload, where=where), PackDigest(record.digest)
                    manifest = decode_manifest(files.chunks, where=where)
                    self._described[digest] = measure_files(
                        digest, manifest, zarr_json=files.zarr_json, chunks=files.chunks
                    )
                    self.findings.report.chunks += manifest.rows

    def check_packs(
        self,
        scope: VerifyScope,
        only: Collection[PackDigest] | None,
        verified: Collection[PackDigest],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Check names and sizes of all described packs, and read those that are chosen."""
        found = {file.path: file for file in self._transport.iter_files("packs/")}
        digests = sorted(self._described if only is None else self._described.keys() & only)
        chosen = {path.name for path in scope.choose([Path(digest.hex()) for digest in digests])}
        report = self.findings.report
        for digest in sorted(self._described):
            damage = check_files(found, digest, self._described[digest])
            if not damage and digest.hex() in chosen and digest not in verified:
                copy = check_copy(
                    self._transport, digest, self._described[digest], folder=self._folder, apply=self._pool.map
                )
                damage = list(copy.damage)
                report.unchecked += copy.unchecked
                report.nbytes += copy.nbytes
            if damage:
                self.findings.packs.add(digest)
                report.damage += damage
            report.packs += 1
            if on_progress is not None:
                on_progress(report.packs, len(self._described))
