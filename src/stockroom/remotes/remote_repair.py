"""Repairs a remote from the data here: sends damaged and missing parts again, and verifies them.

Nothing that is sound on the remote is replaced by other bytes. A ref state or a table of marks is put again only as it
was seen there; damaged bundles are replaced by a new state, which names one bundle of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, RemoteError, StockroomError
from stockroom.remotes.copies import list_verified_copies
from stockroom.remotes.format.pack_files import LocalPack
from stockroom.remotes.format.paths import marks_path
from stockroom.remotes.progress import OnProgress
from stockroom.remotes.push import publish_again
from stockroom.remotes.ref_state_log import download_marks, find_state, get_newest_state
from stockroom.remotes.remote_check import RemoteFindings, check_remote
from stockroom.remotes.sending import open_contents, send_packs
from stockroom.remotes.settings import open_transport_of
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import locate_pack
from stockroom.store.upkeep.removal import forbid_removal
from stockroom.store.upkeep.verify import Damage, Unchecked

_ROUNDS: Final = 2
_PATIENCE_S: Final = 60.0


@dataclass(slots=True)
class RemoteRepairReport:
    """The result of a repair of a remote.

    Attributes:
        remote: its name.
        found: the damage before.
        done: the repairs, in words, and the failed attempts.
        left: the damage after.
        unchecked: the copies that could not be checked on this machine. They may be whole.
        packs, nbytes: packs that were sent again, and their bytes.
    """

    remote: str
    found: list[Damage] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left: list[Damage] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    packs: int = 0
    nbytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything could be checked, and no damage is left."""
        return not (self.left or self.unchecked)


def repair_remote(
    repository: Repository,
    remote: str,
    *,
    transport: Transport | None = None,
    on_verify: Callable[[int, int], None] | None = None,
    on_progress: OnProgress | None = None,
) -> RemoteRepairReport:
    """Verify everything that a remote holds, and send damaged and missing parts again if they are sound here.

    Downloads its metadata, and all packs except those that are here and equal by the store's own checksum.

    Raises `RemoteError` if the remote does not answer, cannot be written to, or nothing was ever pushed there.
    """
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    if not transport.can_write:
        raise RemoteError(f"{transport.url}: is read-only; repair where it is kept")
    return _Repair(repository, transport, RemoteRepairReport(remote), on_verify, on_progress).run()


@dataclass(slots=True)
class _Repair:
    """One repair. `_sent` packs were sent again and have to be verified."""

    _repository: Repository
    _transport: Transport
    _report: RemoteRepairReport
    _on_verify: Callable[[int, int], None] | None
    _on_progress: OnProgress | None
    _sent: set[PackDigest] = field(default_factory=set)

    def run(self) -> RemoteRepairReport:
        report = self._report
        self._put_state_again()
        findings = self._check(None)
        report.found = report.left = findings.report.damage
        for _ in range(_ROUNDS):
            if not report.left:
                break
            is_published = self._heal(findings)
            if is_published:
                findings = self._check(None)
                report.left = findings.report.damage
            else:
                findings = self._check(self._sent)
                healed = {f"pack {digest.hex()}" for digest in self._sent}
                others = [damage for damage in report.left if damage.where not in healed]
                report.left = list(dict.fromkeys([*others, *findings.report.damage]))
                break
        return report

    def _check(self, only: Collection[PackDigest] | None) -> RemoteFindings:
        tracking = Tracking(self._repository.paths, self._report.remote)
        verified = list_verified_copies(self._repository, self._transport, only)
        findings = check_remote(
            self._repository, self._transport, tracking, only=only, verified=verified, on_progress=self._on_verify
        )
        again = None if only is None else {f"pack {digest.hex()}" for digest in only}
        kept = [item for item in self._report.unchecked if again is not None and item.where not in again]
        self._report.unchecked = [*kept, *findings.report.unchecked]
        return findings

    def _put_state_again(self) -> None:
        """Put the ref state last seen, and its marks, again as they were, if they are damaged there."""
        tracking = Tracking(self._repository.paths, self._report.remote)
        known = tracking.read_state()
        if known is None:
            return
        try:
            found = find_state(self._transport, known.number)
            is_damaged = found is not None and found.write_id == known.write_id and found != known
        except CorruptionError:
            bundles = {file.path for file in self._transport.iter_files("bundles/")}
            is_damaged = any(entry.path in bundles for entry in known.bundles)  # else it may be another remote's
        if is_damaged:
            self._transport.put(known.path, known.encode())
            self._report.done.append(f"ref state {known.number}: put again")
        state = get_newest_state(self._transport, known)
        marks = None if state.marks is None else tracking.read_marks(state.marks)
        if state.marks is None or marks is None:
            return
        try:
            download_marks(self._transport, state.marks)
        except (CorruptionError, MissingFileError) as error:
            self._transport.put(marks_path(state.marks), marks)
            self._report.done.append(f"marks: put again ({error})")

    def _heal(self, findings: RemoteFindings) -> bool:
        """Send packs again, and if that is not enough, publish all metadata again. Return whether that was done."""
        unhealed = set(findings.packs)
        for pack in self._open_whole(findings.packs):
            try:
                self._report.nbytes += send_packs(self._transport, [pack], self._on_progress)
            except CorruptionError as error:
                self._report.done.append(f"pack {pack.digest.hex()}: is damaged here too ({error})")
            else:
                self._report.packs += 1
                self._report.done.append(f"pack {pack.digest.hex()}: sent again")
                self._sent.add(pack.digest)
                unhealed.discard(pack.digest)
        if findings.is_metadata_whole and not self._has_others_for(findings, unhealed):
            return False
        try:
            pushed = publish_again(
                self._repository, self._report.remote, self._transport, avoid=unhealed, on_progress=self._on_progress
            )
        except StockroomError as error:
            self._report.done.append(f"metadata: could not be published again ({error})")
            return False
        self._report.packs += pushed.packs
        self._report.nbytes += pushed.nbytes
        self._report.done.append(f"metadata: published again as state {pushed.number}")
        return True

    def _open_whole(self, digests: Collection[PackDigest]) -> list[LocalPack]:
        """Open those packs that are here, whole."""
        with forbid_removal(self._repository.tensors, timeout_s=_PATIENCE_S):
            known = set(self._repository.tensors.catalog.read_packs().values())
            directory = self._repository.tensors.packs_directory
            here = [each for each in sorted(digests) if each in known and locate_pack(directory, each).is_dir()]
            packs = [LocalPack.open(self._repository, digest) for digest in here]
        return [pack for pack in packs if pack.pack.presence is None]

    def _has_others_for(self, findings: RemoteFindings, unhealed: Collection[PackDigest]) -> bool:
        """Return whether other packs here hold the chunks of damaged packs of the remote."""
        tips = findings.state.list_tips()
        if not unhealed or not all(self._repository.refs.has_commit(tip) for tip in tips):
            return False
        try:
            contents, _, _ = open_contents(self._repository, tips, (), avoid=unhealed)
        except StockroomError:
            return False
        return not contents.packs.keys() >= set(unhealed)
