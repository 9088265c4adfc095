"""Fetch: the newest ref state, the bundles that are new here, and what is in them. Packs stay where they are.

What comes is verified before it is kept. Refs move last, so that a kill leaves nothing that is not also right; the next
fetch takes in again what was not noted as taken in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockroom.digest import CommitId, ObjectDigest, PackDigest, check_digest
from stockroom.errors import CorruptionError, NotFoundError, RefChangedError, RemoteError
from stockroom.refs import CommitRecord, Ref, RefChange, RefMove, decode_commit, sort_parents_first
from stockroom.refs.objects import decode_object
from stockroom.remotes.format.bundle import Bundle, RecordKind, decode_pack_files, open_bundle
from stockroom.remotes.format.ref_state import BundleEntry, RefState
from stockroom.remotes.progress import OnProgress, TransferTally
from stockroom.remotes.ref_state_log import find_following_state, find_newest_state
from stockroom.remotes.settings import get_remote, read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import count_needed
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import Manifest
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.pack.sparse_pack import create_sparse_pack
from stockroom.store.pack.writer_folder import session_folder
from stockroom.store.upkeep.removal import forbid_removal

_MAX_BATCH_NBYTES: Final = 16 << 20
_PACKS_AT_ONCE: Final = 8
_TRIES: Final = 3
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch brought: refs moved (name, old, new), and how much was new.

    `leaving` are packs that branches, tags or changes here lead to, not all of them here, which the remote is going to
    remove since nothing there leads to them: push, or bring them here.
    """

    remote: str
    number: int
    moved: tuple[tuple[str, CommitId | None, CommitId | None], ...]
    bundles: int
    commits: int
    objects: int
    packs: int
    nbytes: int
    leaving: int = 0


class BundleGoneError(CorruptionError):
    """A bundle that a ref state names is not there: gc has taken it, if a newer state does without."""


def fetch(
    repository: Repository,
    remote: str,
    *,
    prune: bool = False,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Take in what is new on a remote, and move the remote-tracking refs there; new tags become tags here.

    Raises:
        CorruptionError: something there is not what it should be; refs stay where they were.
        FormatVersionError: a newer Stockroom wrote it.
        RemoteError: the remote does not answer, or nothing was ever pushed there.
    """
    if transport is None:
        transport = open_transport(get_remote(repository.paths, remote))
    tracking = Tracking(repository.paths, remote)
    state = find_newest_state(transport, tracking.read_state())
    if state is None:
        raise RemoteError(f"{transport.url}: there is no Stockroom repository; `stock push` makes one")
    with forbid_removal(repository.tensors, timeout_s=_PATIENCE_S):  # what is here already must not go meanwhile
        intake = Intake(repository, transport, tracking)
        state = intake.take_in_newest(state, on_progress)
        moves = plan_moves(repository, remote, state, prune=prune)
        apply_moves(repository, moves, kind="fetch")
        tracking.write_state(state)
        leaving = count_leaving(repository)
    return FetchReport(
        remote,
        state.number,
        tuple((str(move.ref), move.old, move.new) for move in moves),
        intake.bundles,
        intake.commits,
        intake.objects,
        intake.packs,
        intake.nbytes,
        leaving,
    )


def plan_moves(repository: Repository, remote: str, state: RefState, *, prune: bool) -> list[RefMove]:
    """How refs here follow a remote's state."""
    refs = repository.refs
    moves = []
    for name, tip in state.branches.items():
        ref = Ref("remote", f"{remote}/{name}")
        moves.append(RefMove(ref=ref, old=refs.find_ref(ref), new=CommitId(tip)))
    for name, tip in state.tags.items():
        ref = Ref("tag", name)
        if refs.find_ref(ref) is None:
            moves.append(RefMove(ref=ref, old=None, new=CommitId(tip)))
    if prune:
        prefix = f"{remote}/"
        for name, tip in refs.remotes().items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in state.branches:
                moves.append(RefMove(ref=Ref("remote", name), old=tip, new=None))
    is_shallow = bool(refs.shallow())
    return [
        move
        for move in moves
        if move.old != move.new and not (is_shallow and move.new is not None and not refs.has_commit(move.new))
    ]


def apply_moves(repository: Repository, moves: Sequence[RefMove], *, kind: str) -> None:
    """Move refs, all in one transaction. Another fetch may have done so in the meantime: then there is less to do."""
    if not moves:
        return
    try:
        repository.refs.apply(RefChange(kind=kind, moves=tuple(moves)))
    except RefChangedError:
        now = [RefMove(ref=move.ref, old=repository.refs.find_ref(move.ref), new=move.new) for move in moves]
        left = tuple(move for move in now if move.old != move.new)
        if left:
            repository.refs.apply(RefChange(kind=kind, moves=left))


def count_leaving(repository: Repository) -> int:
    """Note which packs no remote describes any more, of those that are not all here; how many of them matter here."""
    described: set[PackDigest] = set()
    for name in read_remotes(repository.paths):
        tracking = Tracking(repository.paths, name)
        state = tracking.read_state()
        if state is not None:
            described |= tracking.read_described(entry.digest for entry in state.bundles)
    tensors = repository.tensors
    others = set(tensors.catalog.read_packs().values()) - described
    leaving = {pack for pack in others if (locate_pack(tensors.packs_directory, pack) / PRESENCE_NAME).exists()}
    repository.marks.replace_leaving(leaving)
    if not leaving:
        return 0
    try:
        return count_needed(repository, leaving)
    except CorruptionError:  # not to be found out here: `stock fsck` tells
        return len(leaving)


class Intake:
    """Takes bundles of one remote into a repository, and counts what was in them.

    With `keep`, a tip and a depth, only so many commits behind that tip become part of the history here.
    """

    def __init__(
        self,
        repository: Repository,
        transport: Transport,
        tracking: Tracking,
        *,
        keep: tuple[CommitId, int] | None = None,
    ) -> None:
        self._repository = repository
        self._transport = transport
        self._tracking = tracking
        self._keep = keep
        self._records: dict[CommitId, CommitRecord] = {}
        self.bundles = self.commits = self.objects = self.packs = self.nbytes = 0

    def take_in_newest(self, state: RefState, on_progress: OnProgress | None = None) -> RefState:
        """Take in a state, or, where gc was faster and took its bundles away, one that follows it; which it was."""
        while True:
            try:
                self.take_in(state, on_progress)
            except BundleGoneError:
                newer = find_following_state(self._transport, state)
                if newer is None:
                    raise
                state = newer
            else:
                return state

    def take_in(self, state: RefState, on_progress: OnProgress | None = None) -> None:
        """Everything that the state's refs lead to is here afterwards, but for the packs' rows."""
        known = self._tracking.read_bundles()
        new = [entry for entry in state.bundles if entry.digest not in known]
        nbytes = sum(entry.nbytes for entry in new)
        tally = TransferTally("metadata", on_progress, total_files=len(new), total_nbytes=nbytes)
        with session_folder(self._repository.tensors.tmp_directory) as folder:
            for entry in new:
                with self._open(entry, folder / entry.digest.hex(), tally) as bundle:
                    self._take_bundle(bundle, entry, folder)
                (folder / entry.digest.hex()).unlink()
                self.bundles += 1
                self.nbytes += entry.nbytes
        self._add_commits(state)
        self._tracking.add_bundles([entry.digest for entry in new])

    def _open(self, entry: BundleEntry, path: Path, tally: TransferTally) -> Bundle:
        """A bundle, downloaded; one that comes damaged is asked for again."""
        where = f"{self._transport.url}: {entry.path}"
        for attempt in range(_TRIES):
            try:
                download_file(
                    self._transport, entry.path, path, entry.nbytes, on_piece=lambda nbytes: tally.add(nbytes=nbytes)
                )
                bundle = open_bundle(path, entry, where=where)
            except MissingFileError as error:
                raise BundleGoneError(f"{where}: its ref state names it, but it is not there", where=where) from error
            except CorruptionError:
                if attempt + 1 == _TRIES:
                    raise
            else:
                tally.add(files=1)
                return bundle
        raise AssertionError("unreachable")

    def _take_bundle(self, bundle: Bundle, entry: BundleEntry, folder: Path) -> None:
        """Packs first, then objects: whatever something leads to is there before it. Commits are kept for the end."""
        self._take_packs(bundle, entry, folder)
        for batch in _iter_batches(bundle):
            self._take_objects(batch, bundle.where)
        self._read_commits(bundle)

    def _take_packs(self, bundle: Bundle, entry: BundleEntry, folder: Path) -> None:
        tensors = self._repository.tensors
        registered = set(tensors.catalog.read_packs().values())

        def create(digest: PackDigest, payload: memoryview) -> tuple[PackDigest, Manifest]:
            files = decode_pack_files(payload, where=bundle.where)
            manifest = create_sparse_pack(
                tensors.packs_directory,
                folder,
                digest,
                zarr_json=files.zarr_json,
                chunks=bytes(files.chunks),
                index=files.index,
                where=bundle.where,
            )
            return digest, manifest

        described = [
            (PackDigest(record.digest), record.payload)
            for record in bundle.iter_records()
            if record.kind is RecordKind.PACK
        ]
        new = [(digest, payload) for digest, payload in described if digest not in registered]
        for start in range(0, len(new), 64):
            with ThreadPoolExecutor(_PACKS_AT_ONCE) as pool:
                made = list(pool.map(lambda pair: create(*pair), new[start : start + 64]))
            tensors.register(made)
        self._tracking.add_packs(digest for digest, _ in described)
        self._tracking.note_described(entry.digest, [digest for digest, _ in described])
        self.packs += len(new)

    def _take_objects(self, batch: Mapping[ObjectDigest, bytes], where: str) -> None:
        objects = self._repository.objects
        missing = objects.find_missing(list(batch))
        for digest in missing:
            try:
                decode_object(batch[digest], digest)
            except CorruptionError as error:
                raise CorruptionError(f"{where}: {error}: the remote is damaged", where=where) from error
        if missing:
            objects.add_encoded({digest: batch[digest] for digest in missing})
            self.objects += len(missing)

    def _read_commits(self, bundle: Bundle) -> None:
        for record in bundle.iter_records():
            if record.kind is RecordKind.COMMIT:
                content, where = bytes(record.payload), f"{bundle.where}, commit {record.digest.hex()}"
                check_digest(content, record.digest, where=where)
                self._records[CommitId(record.digest)] = decode_commit(content, where=where)

    def _add_commits(self, state: RefState) -> None:
        """Make the commits that came part of the history here, parents before children, in one transaction."""
        refs = self._repository.refs
        shallow = refs.shallow()
        if self._keep is not None:
            kept, cut = self._select([self._keep[0]], depth=self._keep[1])
        elif shallow:
            kept, cut = self._select(state.list_tips(), depth=None)
        else:
            kept, cut = set(self._records), set()
            self._check_complete(state)
        parents = {c: r.parent_ids for c, r in self._records.items() if c in kept and not refs.has_commit(c)}
        new = [self._records[commit] for commit in sort_parents_first(parents)]
        if new:
            try:
                refs.apply(RefChange(kind="fetch", commits=tuple(new), shallow=tuple(sorted(cut - shallow))))
            except NotFoundError as error:
                where = f"{self._transport.url}: {state.path}"
                raise CorruptionError(
                    f"{where}: its history is not whole ({error}): the remote is damaged", where=where
                ) from error
        self.commits += len(new)

    def _select(self, tips: Sequence[CommitId], *, depth: int | None) -> tuple[set[CommitId], set[CommitId]]:
        """The commits that came, from `tips` down, `depth` in each line; and those whose parents are left out."""
        kept: set[CommitId] = set()
        cut: set[CommitId] = set()
        level, left = [tip for tip in tips if tip in self._records], depth
        while level:
            left = None if left is None else left - 1
            kept.update(level)
            below: dict[CommitId, None] = {}
            for commit in level:
                parents = self._records[commit].parent_ids
                here = [parent for parent in parents if self._is_at_hand(parent)]
                if len(here) < len(parents) or (left == 0 and parents):
                    cut.add(commit)
                elif left != 0:
                    below.update(dict.fromkeys(parent for parent in parents if parent in self._records))
            level = [commit for commit in below if commit not in kept]
        return kept, cut

    def _is_at_hand(self, commit: CommitId) -> bool:
        return commit in self._records or self._repository.refs.has_commit(commit)

    def _check_complete(self, state: RefState) -> None:
        for tip in state.list_tips():
            if not self._is_at_hand(tip):
                where = f"{self._transport.url}: {state.path}"
                raise CorruptionError(
                    f"{where}: leads to commit {tip.hex()}, which is in none of its bundles: the remote is damaged",
                    where=where,
                )


def _iter_batches(bundle: Bundle) -> Iterator[dict[ObjectDigest, bytes]]:
    """The objects of a bundle, by digest, some MiB at a time."""
    batch: dict[ObjectDigest, bytes] = {}
    nbytes = 0
    for record in bundle.iter_records():
        if record.kind is RecordKind.OBJECT:
            batch[ObjectDigest(record.digest)] = bytes(record.payload)
            nbytes += len(record.payload)
            if nbytes >= _MAX_BATCH_NBYTES:
                yield batch
                batch, nbytes = {}, 0
    if batch:
        yield batch
