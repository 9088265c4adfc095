"""Push: packs, then a bundle of metadata, then the next ref state. Until that last step nobody sees any of it.

Killed at any instant, it has at most left files there that the next push finds and does not send again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from stockroom.digest import CommitId, PackDigest
from stockroom.errors import CorruptionError, RefChangedError, RemoteError, StockroomError
from stockroom.refs import Ref, RefChange, RefMove
from stockroom.remotes.collisions import find_collision, leave_out_colliding
from stockroom.remotes.format.bundle import BundleWriter, merge_bundle, open_bundle, plan_compaction
from stockroom.remotes.format.marks import Item, ItemKind, MarkTable
from stockroom.remotes.format.pack_files import LocalPack, list_unsent
from stockroom.remotes.format.ref_state import BundleEntry, RefState
from stockroom.remotes.progress import OnProgress, TransferTally
from stockroom.remotes.push_packs import remove_replaced
from stockroom.remotes.push_plan import PushContents, write_metadata
from stockroom.remotes.ref_state_log import (
    StateTakenError,
    check_exclusive,
    find_following_state,
    find_newest_state,
    is_current,
    make_vanished_error,
    publish_state,
    put_marks,
    read_marks,
    read_newer_state,
)
from stockroom.remotes.ref_updates import find_in_state, find_refusal, follow_updates, plan_updates
from stockroom.remotes.refspecs import PushRequest
from stockroom.remotes.remote_history import list_known_commits
from stockroom.remotes.sending import make_whole, open_contents, send_packs
from stockroom.remotes.settings import open_transport_of
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.repository.repository import Repository
from stockroom.store.pack.pack import StalePackError
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.upkeep.row_copier import PlannedPack

_FEW_PACKS: Final = 4
_ROUNDS: Final = 20
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One ref of the remote, such as "branch/main" or "tag/v1", with its old and new commit, or None."""

    ref: str
    old: CommitId | None
    new: CommitId | None


@dataclass(frozen=True, slots=True)
class PushReport:
    """The result of a push; `moved` is empty if the remote was up to date.

    `upstreams` are the branches here whose upstream it set, with those.
    """

    remote: str
    number: int
    moved: tuple[RefUpdate, ...]
    packs: int
    nbytes: int
    upstreams: tuple[tuple[str, str], ...] = ()


def push(
    repository: Repository,
    remote: str,
    request: PushRequest,
    *,
    allow_new_remote: bool = False,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> PushReport:
    """Set refs of a remote as requested, all or none, and send everything they reach.

    A remote begins with its first push. If it has none of the states that were seen there, that takes
    `allow_new_remote`.

    Raises:
        RefChangedError: a branch of the remote has commits that would be lost, a tag is elsewhere, a lease is stale, or
            the remote lacks history that this shallow clone lacks as well; nothing was moved.
        RefNotFoundError: there is no branch or tag to delete.
        InvalidNameError: a new name differs from another of the remote only in case or accents' form.
        CorruptionError: something here that was to be sent is damaged.
        RemoteError: the remote does not answer, cannot be written to, creates a file twice, or has vanished.
    """
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    if isinstance(transport, WorkingRepositoryTransport):
        transport.refuse_write()
    if not transport.can_write:
        raise RemoteError(f"{transport.url}: is read-only; push to the folder or object store behind it")
    tracking = Tracking(repository.paths, remote)
    return _Push(repository, remote, tracking, transport, request, allow_new_remote, on_progress).run()


def publish_again(
    repository: Repository,
    remote: str,
    transport: Transport,
    *,
    avoid: Collection[PackDigest] = (),
    on_progress: OnProgress | None = None,
) -> PushReport:
    """Publish a remote's refs once more, with one new bundle that holds everything they reach, and all packs it needs.

    Packs to `avoid` are only described for chunks that no others hold, and are not sent.

    Raises:
        RemoteError: a commit that the remote's refs name is not here.
        RefChangedError: this is a shallow clone.
    """
    tracking, nothing = Tracking(repository.paths, remote), PushRequest({})
    return _Push(repository, remote, tracking, transport, nothing, False, on_progress, True, frozenset(avoid)).run()


@dataclass(slots=True)
class _Push:
    """One push, from the state it found to the state it made."""

    _repository: Repository
    _remote: str
    _tracking: Tracking
    _transport: Transport
    _request: PushRequest
    _allow_new_remote: bool
    _on_progress: OnProgress | None
    _again: bool = False
    _avoid: frozenset[PackDigest] = frozenset()
    _sent: set[PackDigest] = field(default_factory=set)
    _doubted: set[PackDigest] = field(default_factory=set)
    _described: set[PackDigest] = field(default_factory=set)
    _bundles: set[bytes] = field(default_factory=set)
    _replaced: list[PlannedPack] = field(default_factory=list)
    _may_regroup: bool = True
    _nbytes: int = 0

    def run(self) -> PushReport:
        refs, state = self._repository.refs, self._find_state()
        self._may_regroup = not self._again
        is_newest = False
        for round_ in range(_ROUNDS):
            updates = plan_updates(state, self._request)
            refusal: StockroomError | None = find_collision(state, updates)
            if refusal is None:
                refusal = find_refusal(refs, state, updates, self._request, remote=self._remote)
            if (refusal is not None or not updates) and state is not None and not is_newest:
                state, is_newest = read_newer_state(self._transport, state), True
                continue
            if refusal is not None:
                raise refusal
            if not updates and not self._again:
                self._remember(state, ())
                return self._report(0 if state is None else state.number, ())
            try:
                self._check_exclusive()
                following = self._send(state, updates)
                publish_state(self._transport, following)
            except StalePackError:  # gc rewrote packs: from now on, send them as they are
                self._may_regroup = False
                continue
            except StateTakenError as taken:
                time.sleep(random.uniform(0, 0.02 * min(round_, 25)))  # noqa: S311 - so that many do not meet again
                newest = read_newer_state(self._transport, taken.found)
                self._doubt(state, newest)
                state, is_newest = newest, True
                continue
            self._remember(following, updates)
            remove_replaced(self._repository, self._replaced)
            return self._report(following.number, updates)
        raise RefChangedError(f"{self._transport.url}: others pushed {_ROUNDS} times in the meantime; try again")

    def _report(self, number: int, updates: Sequence[RefMove]) -> PushReport:
        moved = tuple(RefUpdate(str(update.ref), update.old, update.new) for update in updates)
        return PushReport(self._remote, number, moved, len(self._sent | self._doubted), self._nbytes)

    def _doubt(self, before: RefState | None, now: RefState) -> None:
        """If gc may have run between two states, check again that the packs sent so far are there."""
        if now.marks != (None if before is None else before.marks):
            self._doubted |= self._sent
            self._sent = set()

    def _find_state(self) -> RefState | None:
        """Return the remote's newest known state. Publishing shows whether there is a newer one."""
        known = self._tracking.read_state()
        if known is not None and is_current(self._transport, known):
            return known
        newest = find_newest_state(self._transport)
        if newest is None and self._tracking.has_seen_state and not self._allow_new_remote:
            raise make_vanished_error(self._transport)
        if known is not None or newest is None:  # another remote in its place
            self._tracking.forget()
        return newest

    def _check_exclusive(self) -> None:
        """Check, at the first push to a remote, that it creates a file only once."""
        if not self._tracking.is_exclusive:
            check_exclusive(self._transport)
            self._tracking.note_exclusive()

    def _send(self, state: RefState | None, updates: Sequence[RefMove]) -> RefState:
        """Put packs and bundle on the remote; return the state to publish. Raises `StateTakenError` if one is newer."""
        if self._again and state is not None:
            state = msgspec.structs.replace(state, bundles=())
            tips = state.list_tips()
            self._check_here(tips)
        else:
            tips = [update.new for update in updates if update.new is not None]
        following = follow_updates(state, updates)
        with _noticing_gc(self._transport, state):
            known = list_known_commits(self._repository, self._transport, None if self._again else state, tips)
            sent = self._tracking.read_packs() | self._sent | self._doubted if self._may_regroup else None
            contents, packs, replaced = open_contents(self._repository, tips, known, avoid=self._avoid, sent=sent)
            self._replaced += replaced
            if not contents.commits:
                return following
            marks = self._find_marks(state)
            is_lost = marks is None
            marks = marks or {}
            relied: list[Item] = [(ItemKind.PACK, digest) for digest in contents.packs]
            self._await_removal(state, marks, relied)
            new = self._send_packs(packs, following.bundles)
            bundles = self._send_bundle(state, contents, new, marks)
        relied += [(ItemKind.BUNDLE, entry.digest) for entry in bundles]
        saved = marks.keys() & set(relied)
        if saved or is_lost:
            digest = put_marks(self._transport, [mark for item, mark in marks.items() if item not in saved])
            following = msgspec.structs.replace(following, marks=digest)
        return msgspec.structs.replace(following, bundles=bundles)

    def _find_marks(self, state: RefState | None) -> MarkTable | None:
        """Return the marks of a state, or None if they are lost and it is to be published again."""
        try:
            return read_marks(self._transport, state, self._tracking)
        except (CorruptionError, MissingFileError):
            if not self._again:
                raise
            return None

    def _check_here(self, tips: Sequence[CommitId]) -> None:
        """Raise `RemoteError` unless all `tips` are here."""
        absent = [tip for tip in tips if not self._repository.refs.has_commit(tip)]
        if absent:
            raise RemoteError(
                f"{self._transport.url}: its refs name commit {absent[0].hex()[:12]}, which is not here: run this in a "
                "clone that has it"
            )

    def _await_removal(self, state: RefState | None, marks: MarkTable, relied: Sequence[Item]) -> None:
        """Wait until no gc may be removing items that this push relies on, so that they can be put there again.

        A gc that was killed leaves a time after which its removal is over.
        """
        latest_s = max((marks[item].until_s for item in relied if item in marks), default=0)
        if not latest_s:
            return
        assert state is not None
        give_up_s = time.monotonic() + _PATIENCE_S
        while (left_s := latest_s - self._transport.read_clock_s()) >= 0:
            newer = find_following_state(self._transport, state)
            if newer is not None:
                raise StateTakenError(newer)
            if time.monotonic() > give_up_s:
                raise RemoteError(
                    f"{self._transport.url}: a gc there is removing packs that this push needs, or was killed; "
                    f"push again in {left_s + 1} s"
                )
            time.sleep(_PAUSE_S)

    def _send_packs(self, packs: Sequence[LocalPack], bundles: Sequence[BundleEntry]) -> list[LocalPack]:
        """Send the missing packs. Return the packs that no bundle of the remote describes yet."""
        known = self._tracking.read_packs() | self._doubted
        described = self._tracking.read_described(entry.digest for entry in bundles)
        old = [pack for pack in packs if pack.digest in known and pack.digest not in self._sent]
        unsent = [pack for pack in packs if pack.digest not in known and pack.digest not in self._sent]
        missing = list_unsent(self._transport, old) if old else []
        missing += list_unsent(self._transport, unsent) if len(unsent) > _FEW_PACKS else unsent
        missing = make_whole(self._repository, [pack for pack in missing if pack.digest not in self._avoid])
        self._nbytes += send_packs(self._transport, missing, self._on_progress)
        self._sent.update(pack.digest for pack in missing)
        new = [pack for pack in packs if pack.digest not in described]
        self._described.update(pack.digest for pack in new)
        return new

    def _send_bundle(
        self, state: RefState | None, contents: PushContents, packs: Sequence[LocalPack], marks: MarkTable
    ) -> tuple[BundleEntry, ...]:
        """Put the new metadata on the remote, merged with small bundles there. Return the new list of bundles."""
        entries = () if state is None else state.bundles
        with open_writer_folder(self._repository.tensors.tmp_directory) as folder:
            writer = BundleWriter(folder / "bundle")
            for pack in packs:
                writer.add_pack(pack.digest, pack.describe())
            write_metadata(self._repository, contents, writer)
            merged = plan_compaction(entries, writer.nbytes)
            for entry in entries[len(entries) - merged :]:
                self._merge(entry, writer, folder / entry.digest.hex())
            entry = writer.finish()
            self._await_removal(state, marks, [(ItemKind.BUNDLE, entry.digest)])
            tally = TransferTally("metadata", self._on_progress, total_files=1, total_nbytes=entry.nbytes)
            self._transport.put(entry.path, writer.path)
            tally.add(files=1, nbytes=entry.nbytes)
            self._nbytes += entry.nbytes
        self._tracking.note_described(entry.digest, writer.packs)
        if not {old.digest for old in entries[len(entries) - merged :]} - self._tracking.read_bundles():
            self._bundles.add(entry.digest)  # all of its content is here
        return (*entries[: len(entries) - merged], entry)

    def _merge(self, entry: BundleEntry, writer: BundleWriter, path: Path) -> None:
        download_file(self._transport, entry.path, path, entry.nbytes)
        with open_bundle(path, entry, where=f"{self._transport.url}: {entry.path}") as bundle:
            merge_bundle(bundle, writer)
        path.unlink()

    def _remember(self, state: RefState | None, updates: Sequence[RefMove]) -> None:
        """Note the remote's state, and move the remote-tracking branches of those that were pushed."""
        if state is None:
            return
        published = {entry.digest for entry in state.bundles}
        if published & self._bundles:
            self._tracking.add_packs(self._described)
            self._tracking.add_bundles(self._bundles & published)
        self._tracking.write_state(state)
        moves = []
        for ref in dict.fromkeys([*self._request.refs, *(update.ref for update in updates)]):
            mine, now = Ref("remote", f"{self._remote}/{ref.name}"), find_in_state(state, ref)
            old = self._repository.refs.find_ref(mine)
            if ref.kind == "branch" and old != now and (now is None or self._repository.refs.has_commit(now)):
                moves.append(RefMove(ref=mine, old=old, new=now))
        moves, _ = leave_out_colliding(self._repository.refs, moves)
        if moves:
            with suppress(RefChangedError):  # a concurrent fetch, which saw the same or something newer
                self._repository.refs.apply(RefChange(kind="push", moves=tuple(moves)))


@contextmanager
def _noticing_gc(transport: Transport, state: RefState | None) -> Iterator[None]:
    """Raise `StateTakenError` instead of `MissingFileError` if gc removed a file and there is a newer state."""
    try:
        yield
    except MissingFileError as error:
        newer = None if state is None else find_following_state(transport, state)
        if newer is None:
            raise
        raise StateTakenError(newer) from error
