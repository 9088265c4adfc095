"""Takes bundles of a remote into a repository. Content is verified before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from stockroom.digest import CommitId, ObjectDigest, PackDigest, check_digest
from stockroom.errors import CorruptionError, NotFoundError
from stockroom.refs import CommitRecord, RefChange, decode_commit, sort_parents_first
from stockroom.refs.objects import decode_object
from stockroom.remotes.format.bundle import Bundle, BundleRecord, RecordKind, decode_pack_files, open_bundle
from stockroom.remotes.format.ref_state import BundleEntry, RefState
from stockroom.remotes.history_depth import Depth, HistoryPart, change_depth, select_history
from stockroom.remotes.progress import OnProgress, TransferTally
from stockroom.remotes.ref_state_log import find_following_state
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.remotes.working_repository import list_packs, list_shallow, write_bundle
from stockroom.repository.repository import Repository
from stockroom.store.pack.manifest import Manifest
from stockroom.store.pack.sparse_pack import create_sparse_pack
from stockroom.store.pack.writer_folder import open_writer_folder

_MAX_BATCH_NBYTES: Final = 16 << 20
_PACKS_AT_ONCE: Final = 8
_TRIES: Final = 3


class BundleGoneError(CorruptionError):
    """A bundle that a ref state names is missing: gc has removed it, if a newer state does without."""


class Intake:
    """Takes bundles of one remote into a repository, and counts their content.

    `list_tips` returns the commits of a ref state whose history becomes part of the history here; None is all. With
    a `depth`, that is the depth of their history from now on.
    """

    def __init__(
        self,
        repository: Repository,
        transport: Transport,
        tracking: Tracking,
        *,
        list_tips: Callable[[RefState], Sequence[CommitId]] | None = None,
        depth: Depth | None = None,
    ) -> None:
        self._repository = repository
        self._transport = transport
        self._tracking = tracking
        self._takes_all = list_tips is None
        self._may_cut = False
        self._list_tips = list_tips or RefState.list_tips
        self._depth = depth
        self._records: dict[CommitId, CommitRecord] = {}
        self.bundles = self.commits = self.objects = self.packs = self.nbytes = 0

    def take_in_newest(self, state: RefState, on_progress: OnProgress | None = None) -> RefState:
        """Take in `state`, or a later one if gc has removed parts of it. Return the state taken in."""
        may_change = isinstance(self._transport, WorkingRepositoryTransport)
        while True:
            try:
                self.take_in(state, on_progress)
            except CorruptionError as error:
                is_passing = may_change or isinstance(error, BundleGoneError)
                newer = find_following_state(self._transport, state) if is_passing else None
                if newer is None:
                    raise
                state = newer
            else:
                return state

    def take_in(self, state: RefState, on_progress: OnProgress | None = None) -> None:
        """Take in everything that the chosen refs reach, except the rows of packs.

        Commits that an earlier time left out are in bundles taken in before: those are then taken in again.
        """
        if isinstance(self._transport, WorkingRepositoryTransport):
            self._take_working(self._transport, state, on_progress)
            return
        known = self._tracking.read_bundles()
        new = [entry for entry in state.bundles if entry.digest not in known]
        self._take_bundles(new, on_progress)
        old = [entry for entry in state.bundles if entry.digest in known]
        if old and (self._depth is not None or not self._has_all(state)):
            self._take_bundles(old, on_progress)
        self._add_commits(state)
        self._tracking.add_bundles([entry.digest for entry in new])

    def _take_working(
        self, transport: WorkingRepositoryTransport, state: RefState, on_progress: OnProgress | None
    ) -> None:
        """Take in what a repository that somebody works in has and this one lacks."""
        (listed,), known = state.bundles, self._tracking.read_bundles()
        refs, packs = self._repository.refs, set(self._repository.tensors.catalog.read_packs().values())
        if listed.digest not in known or self._depth is not None or not self._has_all(state):
            is_whole = bool(known) and self._depth is None and not refs.shallow()
            here = {*refs.remotes().values(), *refs.branches().values(), *refs.tags().values()} if is_whole else ()
            with open_writer_folder(self._repository.tensors.tmp_directory) as folder:
                path = folder / "bundle"
                entry = write_bundle(transport, state, path, known=[*here], packs=packs)
                tally = TransferTally("metadata", on_progress, total_files=1, total_nbytes=entry.nbytes)
                with open_bundle(path, entry, where=transport.url) as bundle:
                    self._take_bundle(bundle, entry, folder)
            tally.add(files=1, nbytes=entry.nbytes)
            self.bundles += 1
            self.nbytes += entry.nbytes
        there = list_packs(transport)
        self._tracking.add_packs(there)
        self._tracking.note_described(listed.digest, there)
        self._may_cut = bool(list_shallow(transport))
        self._add_commits(state)
        self._tracking.add_bundles([listed.digest])

    def _take_bundles(self, entries: Sequence[BundleEntry], on_progress: OnProgress | None) -> None:
        nbytes = sum(entry.nbytes for entry in entries)
        tally = TransferTally("metadata", on_progress, total_files=len(entries), total_nbytes=nbytes)
        with open_writer_folder(self._repository.tensors.tmp_directory) as folder:
            for entry in entries:
                with self._open(entry, folder / entry.digest.hex(), tally) as bundle:
                    self._take_bundle(bundle, entry, folder)
                (folder / entry.digest.hex()).unlink()
                self.bundles += 1
                self.nbytes += entry.nbytes

    def _open(self, entry: BundleEntry, path: Path, tally: TransferTally) -> Bundle:
        """Download and open a bundle. If it arrives damaged, download it again."""
        where = f"{self._transport.url}: {entry.path}"
        for attempt in range(_TRIES):
            try:
                download_file(
                    self._transport, entry.path, path, entry.nbytes, on_piece=lambda nbytes: tally.add(nbytes=nbytes)
                )
                bundle = open_bundle(path, entry, where=where)
            except MissingFileError as error:
                raise BundleGoneError(f"{where}: its ref state names it, but it does not exist", where=where) from error
            except CorruptionError:
                if attempt + 1 == _TRIES:
                    raise
            else:
                tally.add(files=1)
                return bundle
        raise AssertionError("unreachable")

    def _take_bundle(self, bundle: Bundle, entry: BundleEntry, folder: Path) -> None:
        """Take packs, then objects, so that everything comes after its references. Commits are kept for the end."""
        self._take_packs(bundle, entry, folder)
        for batch in _iter_batches(bundle):
            self._take_objects(batch, bundle.where)
        self._read_commits(bundle)

    def _take_packs(self, bundle: Bundle, entry: BundleEntry, folder: Path) -> None:
        tensors = self._repository.tensors
        registered = set(tensors.catalog.read_packs().values())

        def create(record: BundleRecord) -> tuple[PackDigest, Manifest]:
            digest, files = PackDigest(record.digest), decode_pack_files(record.payload, where=bundle.where)
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

        described = [record for record in bundle.iter_records() if record.kind is RecordKind.PACK]
        new = [record for record in described if record.digest not in registered]
        for start in range(0, len(new), 64):
            with ThreadPoolExecutor(_PACKS_AT_ONCE) as pool:
                made = list(pool.map(create, new[start : start + 64]))
            tensors.register(made, may_join=False)
        digests = [PackDigest(record.digest) for record in described]
        self._tracking.add_packs(digests)
        self._tracking.note_described(entry.digest, digests)
        self.packs += len(new)

    def _take_objects(self, batch: Mapping[ObjectDigest, bytes], where: str) -> None:
        objects = self._repository.objects
        missing = objects.list_missing(list(batch))
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
        """Add the new commits to the history here, parents before children, in one transaction."""
        refs = self._repository.refs
        shallow = refs.shallow()
        part = self._select(state, shallow)
        self._check_complete(state, part, may_be_cut=self._depth is not None or bool(shallow) or self._may_cut)
        here = {commit for commit in part.kept if refs.has_commit(commit)}
        parents = {c: self._records[c].parent_ids for c in part.kept if c not in here}
        new = tuple(self._records[commit] for commit in sort_parents_first(parents))
        cut, whole = part.cut - shallow, shallow & part.kept.keys() - part.cut
        if new or cut or whole:
            try:
                refs.apply(RefChange(kind="fetch", commits=new, shallow=tuple(sorted(cut)), whole=tuple(sorted(whole))))
            except NotFoundError as error:
                where = f"{self._transport.url}: {state.path}"
                raise CorruptionError(
                    f"{where}: its history is incomplete ({error}): the remote is damaged", where=where
                ) from error
        self.commits += len(new)

    def _select(self, state: RefState, shallow: Collection[CommitId]) -> HistoryPart:
        """Return the commits to keep, of those received and, for another depth, those here."""
        refs, tips = self._repository.refs, self._list_tips(state)
        if self._depth is not None:
            part = change_depth(self._depth, tips, shallow, self._find_parents)
            new = select_history(tips if self._depth.tips is None else (), self._find_parents, beyond=refs.has_commit)
            return HistoryPart(part.kept | new.kept, part.cut | new.cut)
        if self._takes_all and not shallow and not self._may_cut:
            return HistoryPart(dict.fromkeys(self._records))
        return select_history(tips, self._find_parents, beyond=refs.has_commit)

    def _find_parents(self, commit: CommitId) -> Sequence[CommitId] | None:
        record = self._records.get(commit)
        if record is None and self._repository.refs.has_commit(commit):
            record = self._repository.refs.get_commit(commit)
        return None if record is None else record.parent_ids

    def _has_all(self, state: RefState) -> bool:
        """Return whether the chosen commits are here or received, with their parents unless this clone is shallow."""
        shallow = self._repository.refs.shallow()
        return all(map(self._is_at_hand, self._list_tips(state))) and (
            bool(shallow) or not self._select(state, shallow).cut
        )

    def _is_at_hand(self, commit: CommitId) -> bool:
        return commit in self._records or self._repository.refs.has_commit(commit)

    def _check_complete(self, state: RefState, part: HistoryPart, *, may_be_cut: bool) -> None:
        where = f"{self._transport.url}: {state.path}"
        own = set(state.list_tips())
        for tip in self._list_tips(state):
            if tip in own and not self._is_at_hand(tip):
                raise CorruptionError(
                    f"{where}: names commit {tip.hex()}, which is in no bundle: the remote is damaged",
                    where=where,
                )
        if part.cut and not may_be_cut:
            raise CorruptionError(
                f"{where}: its history is incomplete (a parent of commit {min(part.cut).hex()} is in no bundle): the "
                "remote is damaged",
                where=where,
            )


def _iter_batches(bundle: Bundle) -> Iterator[dict[ObjectDigest, bytes]]:
    """Yield the objects of a bundle by digest, in batches of some MiB."""
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
