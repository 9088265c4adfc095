"""Gc of a remote: removes items that its refs have not reached for a while (design note 15).

It decides by the newest ref state, through a temporary copy of all its metadata. This repository adds only the commits
that git pins, that are checked out or that readers hold; its other content decides nothing. A first step marks
unreachable items and leaves them out of the bundles; a later one removes items marked for the grace period. Both
publish ref states, as pushes do, so a push and a gc that race learn of each other. The next gc continues an interrupted
one.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias, TypeVar

import msgspec

from stockroom.errors import InvalidInputError, RefChangedError, RemoteError
from stockroom.remotes.format.marks import MAX_MARKS, Item, ItemKind, MarkTable, RemoteMark, parse_item
from stockroom.remotes.format.ref_state import BundleEntry, RefState, make_following
from stockroom.remotes.metadata_copy import MetadataCopy
from stockroom.remotes.ref_state_log import (
    StateTakenError,
    find_following_state,
    get_newest_state,
    publish_state,
    put_marks,
    read_marks,
    read_newer_state,
)
from stockroom.remotes.remote_repack import NewPacks, split_packs
from stockroom.remotes.settings import open_transport_of
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, StoredFile, Transport
from stockroom.remotes.transport.retry import read_clock_s
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.roots import list_heads, list_readers_commits
from stockroom.store.pack.writer_folder import open_writer_folder

GRACE: Final = timedelta(weeks=2)
_ROUNDS: Final = 50
_LEASE_S: Final = 3600
"""How long an announced removal may take. Pushes that need an item wait, or come again."""
_REMOVING_S: Final = 600.0
"""How long after its announcement a removal may begin a request, so that the last one ends long before the lease."""
_REMOVED_AT_ONCE: Final = 1000
_REQUESTS_AT_ONCE: Final = 8

T = TypeVar("T")
OnStage: TypeAlias = Callable[[str, int, int], None]
Files: TypeAlias = Mapping[Item, Sequence[StoredFile]]
_Changes: TypeAlias = Mapping[Item, RemoteMark | None]


@dataclass(frozen=True, slots=True)
class RemoteGcReport:
    """The result of a gc of a remote, or, for a dry run, its plan.

    Attributes:
        remote: its name.
        packs, nbytes: packs removed, and the bytes of their files and of the removed `bundles`.
        bundles: bundles removed, whose content is in other bundles or unreachable.
        marked: packs newly found to be unreachable.
        waiting: packs marked for less than the grace period.
        rewritten: bundles rewritten without their unreachable content.
        dry_run: whether nothing was changed.
        repacked, made: packs whose rows were copied into others, and how many packs they became.
    """

    remote: str
    packs: int
    nbytes: int
    bundles: int
    marked: int
    waiting: int
    rewritten: int
    dry_run: bool
    repacked: int = 0
    made: int = 0


def collect_remote(
    repository: Repository,
    remote: str,
    *,
    grace: timedelta = GRACE,
    dry_run: bool = False,
    repack: bool = False,
    transport: Transport | None = None,
    on_stage: OnStage = lambda *_: None,
) -> RemoteGcReport:
    """Mark items the refs of a remote cannot reach; remove items marked for `grace` by its clock.

    With `repack`, first copy the needed rows of small and wasteful packs into new ones, and mark the old ones too.
    Commits that the git history here pins, that are checked out here or that readers here hold, are kept as well.

    Raises:
        CorruptionError: its metadata is damaged; nothing was removed.
        RemoteError: it does not answer, cannot be written to or listed, or nothing was ever pushed there.
    """
    if grace < timedelta(0):
        raise InvalidInputError(f"expected a grace period of 0 or longer, found {grace}")
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    if not transport.can_write:
        raise RemoteError(f"{transport.url}: is read-only; run gc on the folder or object store behind it")
    with open_writer_folder(repository.tensors.tmp_directory) as folder, MetadataCopy(folder, transport) as metadata:
        tracking, grace_s = Tracking(repository.paths, remote), -(-grace // timedelta(seconds=1))
        collection = _Collection(repository, remote, tracking, transport, metadata, grace_s, on_stage)
        return collection.run(dry_run=dry_run, repack=repack)


@dataclass(frozen=True, slots=True)
class _Collection:
    """One gc of a remote."""

    _repository: Repository
    _remote: str
    _tracking: Tracking
    _transport: Transport
    _metadata: MetadataCopy
    _grace_s: int
    _on_stage: OnStage

    def run(self, *, dry_run: bool, repack: bool) -> RemoteGcReport:
        self._on_stage("reading metadata", 0, 0)
        state = get_newest_state(self._transport, self._tracking.read_state())
        repacked = made = 0
        if repack:
            state, repacked, made = self._repack(state, dry_run=dry_run)
        now_s = int(time.time()) if dry_run else self._transport.read_clock_s()
        state, before, marks, files, rewritten = self._mark(state, now_s, dry_run=dry_run)
        ripe = self._list_expired(marks, files, now_s)
        removed = [mark.item for mark in ripe] if dry_run else self._remove(state, ripe, files)
        if not dry_run:
            self._transport.remove_leftovers(now_s - self._grace_s)
        kinds = [kind for kind, _ in removed]
        gone, packs = set(removed), [item for item in marks if item[0] is ItemKind.PACK]
        return RemoteGcReport(
            remote=self._remote,
            packs=kinds.count(ItemKind.PACK),
            nbytes=sum(file.nbytes for item in removed for file in files[item]),
            bundles=kinds.count(ItemKind.BUNDLE),
            marked=sum(item not in before for item in packs),
            waiting=sum(item not in gone for item in packs),
            rewritten=rewritten,
            dry_run=dry_run,
            repacked=repacked,
            made=made,
        )

    def _repack(self, state: RefState, *, dry_run: bool) -> tuple[RefState, int, int]:
        """Publish new packs with the needed rows of others. Return the state, and how many packs became how many."""
        self._metadata.take_in(state)
        self._keep_used()
        plan, repacked, made = self._metadata.plan_repack(), 0, 0
        if dry_run:
            return state, len(plan), 0
        for batch in split_packs(plan):
            self._on_stage("repacking", repacked, len(plan))
            folder = open_writer_folder(self._repository.tensors.tmp_directory)
            with folder as path, NewPacks(path, self._transport) as new:
                old = new.make(batch)
                if new.packs:
                    state = self._retry(state, partial(self._add_packs, new))
                self._metadata.note_copied(old)
            repacked, made = repacked + len(old), made + len(new.packs)
        return state, repacked, made

    def _add_packs(self, new: NewPacks, state: RefState) -> RefState:
        """Publish a state with new packs, which no other gc may be removing."""
        marks = read_marks(self._transport, state, self._tracking)
        relied: list[Item] = [(ItemKind.PACK, pack.digest) for pack in new.packs]
        self._check_free(marks, relied, self._transport.read_clock_s())
        new.send()
        entry = new.send_bundle()
        relied.append((ItemKind.BUNDLE, entry.digest))
        self._check_free(marks, relied, self._transport.read_clock_s())
        left = {item: mark for item, mark in marks.items() if item not in relied}
        return self._publish(state, left, (*state.bundles, entry))

    def _keep_used(self) -> None:
        """Count as needed what is checked out here, that git pins, or that readers hold."""
        self._metadata.keep(list_heads(self._repository) | list_readers_commits(self._repository))

    def _mark(self, state: RefState, now_s: int, *, dry_run: bool) -> tuple[RefState, MarkTable, MarkTable, Files, int]:
        """Publish marks. Return the state, the marks before and now, all files there, and the number of rewritten
        bundles.

        If others publish a newer state, it starts again from that state.
        """
        files: Files | None = None
        in_force = state.marks

        def mark(state: RefState) -> tuple[RefState, MarkTable, MarkTable, Files, int]:
            nonlocal files, in_force
            before = read_marks(self._transport, state, self._tracking)
            self._metadata.take_in(state)
            if files is None:
                self._keep_used()
                files = self._list_files()
            if state.marks != in_force:  # another gc may have removed bundles that were put here but not published yet
                self._metadata.put_again()
                in_force = state.marks
            bundles, rewritten = self._metadata.rewrite(state, dry_run=dry_run)
            self._check_free(before, [(ItemKind.BUNDLE, entry.digest) for entry in bundles], now_s)
            kept: set[Item] = {(ItemKind.PACK, pack) for pack in self._metadata.list_live_packs()}
            kept |= {(ItemKind.BUNDLE, entry.digest) for entry in bundles} | {(ItemKind.MARKS, state.marks or b"")}
            marks = _renew(before, files, kept, now_s)
            if not dry_run and (rewritten or _has_news(before, marks)):
                state = self._publish(state, marks, bundles)
            return state, before, marks, files, rewritten

        return self._retry(state, mark)

    def _retry(self, state: RefState, attempt: Callable[[RefState], T]) -> T:
        """Return `attempt(state)`, or that of a newer state if others publish or remove files meanwhile."""
        for round_ in range(_ROUNDS):
            try:
                return attempt(state)
            except StateTakenError as taken:
                time.sleep(random.uniform(0, 0.05 * round_))  # noqa: S311 - so that many do not meet again
                state = read_newer_state(self._transport, taken.found)
            except MissingFileError:  # another gc removed files that only older states need
                newer = find_following_state(self._transport, state)
                if newer is None:
                    raise
                state = newer
        raise RefChangedError(f"{self._transport.url}: others pushed {_ROUNDS} times in the meantime; try again")

    def _check_free(self, marks: MarkTable, items: Sequence[Item], now_s: int) -> None:
        """Raise `RemoteError` if another gc may be removing one of `items`, which are put there now."""
        for item in items:
            mark = marks.get(item)
            if mark is not None and mark.until_s > now_s:
                raise RemoteError(
                    f"{self._transport.url}: another gc is running there, or was killed; run gc again in "
                    f"{mark.until_s - now_s} s"
                )

    def _list_expired(self, marks: MarkTable, files: Files, now_s: int) -> list[RemoteMark]:
        """Return marks that are old enough and free of other gcs. Old tables of marks only go along with others."""
        ripe = [
            mark
            for item, mark in marks.items()
            if item in files and now_s - mark.since_s >= self._grace_s and mark.until_s <= now_s
        ]
        return ripe if any(mark.kind is not ItemKind.MARKS for mark in ripe) else []

    def _remove(self, state: RefState, ripe: Sequence[RemoteMark], files: Files) -> list[Item]:
        """Remove items that are still marked, in batches, each announced first. Return the removed items."""
        removed: list[Item] = []
        for start in range(0, len(ripe), _REMOVED_AT_ONCE):
            self._on_stage("removing", start, len(ripe))
            some = ripe[start : start + _REMOVED_AT_ONCE]
            start_s = read_clock_s()
            until_s = self._transport.read_clock_s() + _LEASE_S
            state, removing = self._amend(state, partial(_begin_removal, some, until_s))
            gone = set(self._delete(list(removing), files, start_s))
            outcome = {mark.item: None if mark.item in gone else mark for mark in some if mark.item in removing}
            state, _ = self._amend(state, partial(_end_removal, removing, outcome))
            removed += gone
            if len(gone) < len(removing):
                break
        return removed

    def _delete(self, items: Sequence[Item], files: Files, start_s: float) -> list[Item]:
        """Delete the files of items while there is time. Return the items whose files are all gone."""

        def delete(item: Item) -> bool:
            if read_clock_s() - start_s > _REMOVING_S:
                return False
            self._transport.delete([file.path for file in files[item]])
            return True

        with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="remove") as pool:
            return [item for item, is_gone in zip(items, pool.map(delete, items), strict=True) if is_gone]

    def _amend(self, state: RefState, choose: Callable[[MarkTable], _Changes]) -> tuple[RefState, _Changes]:
        """Publish the changes to the newest marks that `choose` returns. Return the state and the changes."""

        def amend(state: RefState) -> tuple[RefState, _Changes]:
            marks = read_marks(self._transport, state, self._tracking)
            changes = choose(marks)
            if not changes:
                return state, changes
            changed = {item: mark for item, mark in {**marks, **changes}.items() if mark is not None}
            return self._publish(state, changed, state.bundles), changes

        return self._retry(state, amend)

    def _publish(self, state: RefState, marks: MarkTable, bundles: tuple[BundleEntry, ...]) -> RefState:
        following = make_following(state, marks=put_marks(self._transport, marks.values()), bundles=bundles)
        publish_state(self._transport, following)
        return following

    def _list_files(self) -> Files:
        """List every file there that gc may remove, by item."""
        found: defaultdict[Item, list[StoredFile]] = defaultdict(list)
        for folder in ("packs/", "bundles/", "marks/"):
            self._on_stage(f"listing {folder}", 0, 0)
            for file in self._transport.iter_files(folder):
                item = parse_item(file.path)
                if item is not None:
                    found[item].append(file)
        return found


def _begin_removal(marked: Sequence[RemoteMark], until_s: int, marks: MarkTable) -> _Changes:
    """Return changes that announce the removal, until a time, of items whose marks are unchanged."""
    still = [mark for mark in marked if marks.get(mark.item) == mark]
    return {mark.item: msgspec.structs.replace(mark, until_s=until_s) for mark in still}


def _end_removal(removing: _Changes, outcome: _Changes, marks: MarkTable) -> _Changes:
    """Return the changes that record the end of a removal."""
    return {item: outcome[item] for item, mark in removing.items() if marks.get(item) == mark}


def _renew(before: MarkTable, files: Files, kept: set[Item], now_s: int) -> MarkTable:
    """Return the marks of files there that are not kept. Old marks stay, also on items that others are removing."""
    marks = {
        item: mark for item, mark in before.items() if mark.until_s > now_s or (item in files and item not in kept)
    }
    for item in files:
        if item not in kept and item not in marks and len(marks) < MAX_MARKS:
            marks[item] = RemoteMark(*item, now_s)
    return marks


def _has_news(before: MarkTable, now: MarkTable) -> bool:
    """Whether marks changed, except those of old tables of marks, since each change adds one more of these."""
    return any(item[0] is not ItemKind.MARKS for item in before.keys() ^ now.keys())
