"""gc: deletes commits, objects and packs that have been unreachable for longer than the grace period.

`plan_gc` reads and writes nothing; `apply_gc` looks again and acts. These keep things (design notes 14 and 17): refs,
stages, HEAD of every work tree, the operation log within the grace period, the holds of readers, and the claims of
active writers. Order on disk: marks, commits, objects, index, packs; so a kill leaves less to do, and nothing half
done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from stockroom.digest import CommitId, ObjectDigest, PackDigest
from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.refs.anchors import Anchors
from stockroom.refs.marks import Mark, MarkKind
from stockroom.refs.sweep import Sweeper, Swept
from stockroom.repository.claim import read_oldest_round
from stockroom.repository.holds import remove_dead
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import Reachable
from stockroom.repository.upkeep.roots import list_heads, list_readers_commits
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.writer_folder import collect_leftovers, open_writer_folder
from stockroom.store.upkeep.removal import lock_removal, remove_packs
from stockroom.store.upkeep.repack import RepackPlan, plan_repack, rewrite_packs

GRACE: Final = timedelta(weeks=2)
_PATIENCE_S: Final = 10.0
_PACKS_AT_ONCE: Final = 512

Found: TypeAlias = Mapping[MarkKind, Collection[bytes]]
OnStage: TypeAlias = Callable[[str, int, int], None]
"""Called with the current step, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class GcReport:
    """The result of a gc, or the expected result for a dry run.

    Attributes:
        commits, objects, packs, nbytes: those deleted, and the disk bytes of the packs.
        waiting: packs that have not been unreachable for the grace period yet.
        held: packs kept only because active writers may rely on them.
        in_use: commits kept because readers have them, or later ones, open.
        repacked, made: packs rewritten, and the packs they became.
        dry_run: whether nothing was done.
    """

    commits: int
    objects: int
    packs: int
    nbytes: int
    waiting: int
    held: int
    in_use: int
    repacked: int
    made: int
    dry_run: bool


class GcPlan:
    """The things to delete, and the evidence. It holds no locks, and may be out of date when it is applied."""

    def __init__(self, repository: Repository, *, grace: timedelta, repack: bool, now_ns: int) -> None:
        self.repository = repository
        self.grace = grace
        self.now_ns = now_ns
        self.since_ns = now_ns - grace // timedelta(microseconds=1) * 1000
        self.packs = {digest: number for number, digest in repository.tensors.catalog.read_packs().items()}
        repository.tensors.index.refresh()  # after it: a pack that the tables lack would seem to be needed by nothing
        self.reach = Reachable(repository)
        self.after = 0
        anchors = self._open_sweeper().read_anchors()
        self.reach.add_commits(list_heads(repository))
        self._add_hard(anchors)
        self.in_use = self._add_held()
        self.unreachable = self._list_unreachable()
        self.repack = plan_repack(repository.tensors, find_live=self.reach.find_live) if repack else RepackPlan(())
        self._add_recent(anchors)

    def choose(self, marks: Mapping[MarkKind, Mapping[bytes, Mark]], *, oldest: int) -> Found:
        """Return the things to delete: marked for the grace period, and by `oldest`, the oldest claim's round."""
        old: dict[MarkKind, set[bytes]] = {
            kind: {digest for digest in self.unreachable[kind] if self._is_old(kind, digest, marks[kind], oldest)}
            for kind in MarkKind
        }
        for commit in self.repository.refs.iter_commit_ids():
            if commit not in old[MarkKind.COMMIT] and commit not in self.reach.commits:
                with suppress(CorruptionError):  # a kept pack stays as complete as it is
                    self.reach.add_commits([commit])
        return {
            MarkKind.COMMIT: {digest for digest in old[MarkKind.COMMIT] if not self.is_reachable(digest)},
            MarkKind.OBJECT: {digest for digest in old[MarkKind.OBJECT] if not self.is_reachable(digest)},
            MarkKind.PACK: {digest for digest in old[MarkKind.PACK] if not self.is_live(digest)},
        }

    def look_again(self, anchors: Anchors, unmarked: Collection[CommitId]) -> None:
        """Add the anchors as they are now, and commits that were to go and are used again."""
        self._add_hard(anchors)
        self._add_recent(anchors)
        self.reach.add_commits([commit for commit in unmarked if self.repository.refs.has_commit(commit)])

    def is_reachable(self, digest: bytes) -> bool:
        """Return whether a commit or an object is reachable."""
        return digest in self.reach.commits or self.reach.has_object(digest)

    def is_live(self, pack: bytes) -> bool:
        """Return whether a row of a pack is reachable."""
        return self.reach.find_live(self.packs[PackDigest(pack)]) is not None

    def sweep(self, deletable: Found) -> Swept:
        """Delete commits and objects."""
        commits = sorted(map(CommitId, deletable[MarkKind.COMMIT]))
        return self._open_sweeper().sweep(commits, sorted(map(ObjectDigest, deletable[MarkKind.OBJECT])))

    def refresh(self) -> None:
        """Add the refs, stages, HEAD and holds as they are now, which is after the marks were written."""
        self.reach.add_commits(list_heads(self.repository))
        self._add_held()
        self.look_again(self._open_sweeper().read_anchors(), ())

    def measure(self, pack: bytes) -> int:
        """Return the disk bytes of a pack."""
        folder = locate_pack(self.repository.tensors.packs_directory, PackDigest(pack))
        try:
            return sum(entry.stat().st_blocks * 512 for entry in os.scandir(folder))
        except FileNotFoundError:
            return 0

    def _open_sweeper(self) -> Sweeper:
        return Sweeper(self.repository.env, self, since_ns=self.since_ns, after=self.after)

    def _add_hard(self, anchors: Anchors) -> None:
        self.reach.add_commits(anchors.refs)
        for stage in anchors.stages:
            self.reach.add_stage(stage)

    def _add_held(self) -> int:
        """Add the commits that readers hold; return how many that adds, with their history."""
        before = len(self.reach.commits)
        self.reach.add_commits(list_readers_commits(self.repository))
        return len(self.reach.commits) - before

    def _add_recent(self, anchors: Anchors) -> None:
        self.reach.add_commits([commit for commit in anchors.recent if self.repository.refs.has_commit(commit)])
        for stage in anchors.dropped:
            with suppress(CorruptionError):  # a damaged one must not keep gc from working
                self.reach.add_stage(stage)
        self.after = max(self.after, anchors.operation)

    def _list_unreachable(self) -> dict[MarkKind, set[bytes]]:
        refs, objects = self.repository.refs, self.repository.objects
        return {
            MarkKind.COMMIT: {commit for commit in refs.iter_commit_ids() if commit not in self.reach.commits},
            MarkKind.OBJECT: {digest for digest in objects.iter_digests() if not self.reach.has_object(digest)},
            MarkKind.PACK: {pack for pack in self.packs if not self.is_live(pack)},
        }

    def _is_old(self, kind: MarkKind, digest: bytes, marks: Mapping[bytes, Mark], oldest: int) -> bool:
        mark = marks.get(digest)
        if mark is None or mark.round > oldest:
            return False
        return mark.since_ns <= self.since_ns or (kind is MarkKind.PACK and self.is_aged(digest))

    def is_aged(self, pack: bytes) -> bool:
        """Return whether a pack's files are older than the grace period."""
        folder = locate_pack(self.repository.tensors.packs_directory, PackDigest(pack))
        try:
            return folder.stat().st_mtime_ns <= self.since_ns
        except FileNotFoundError:
            return True


def plan_gc(
    repository: Repository, *, grace: timedelta = GRACE, repack: bool = False, now_ns: int | None = None
) -> GcPlan:
    """Return the plan of a gc now, or at `now_ns`; writes nothing and fetches nothing.

    Raises `CorruptionError` if the repository is damaged: the needs of the damaged part are unknown, so nothing may go.
    """
    if grace < timedelta(0):
        raise InvalidInputError(f"expected a grace period of 0 or more, found {grace}")
    return GcPlan(repository, grace=grace, repack=repack, now_ns=time.time_ns() if now_ns is None else now_ns)


def preview_gc(plan: GcPlan) -> GcReport:
    """Return the report of applying a plan if no writer were active."""
    new = Mark(plan.now_ns, 0)
    marks = {kind: dict.fromkeys(plan.unreachable[kind], new) | plan.repository.marks.read(kind) for kind in MarkKind}
    deletable = plan.choose(marks, oldest=plan.repository.marks.read_round())
    packs = deletable[MarkKind.PACK]
    return GcReport(
        commits=len(deletable[MarkKind.COMMIT]),
        objects=len(deletable[MarkKind.OBJECT]),
        packs=len(packs),
        nbytes=sum(map(plan.measure, packs)),
        waiting=len(plan.unreachable[MarkKind.PACK]) - len(packs),
        held=0,
        in_use=plan.in_use,
        repacked=len(plan.repack.packs),
        made=0,
        dry_run=True,
    )


def apply_gc(
    plan: GcPlan, *, before_removal: Callable[[], None] = lambda: None, on_stage: OnStage = lambda *_: None
) -> GcReport:
    """Apply a plan, as far as it still holds. `before_removal` is called before anything is deleted.

    Raises `LockedError` if another process removes packs or fetches. After an interrupt, the next gc continues.
    """
    tensors = plan.repository.tensors
    with lock_removal(tensors, timeout_s=_PATIENCE_S):
        tensors.register(collect_leftovers(tensors.tmp_directory, tensors.packs_directory))
        report = _Run(plan, before_removal, on_stage).run()
    tensors.index.merge()
    return report


@dataclass(frozen=True, slots=True)
class _Run:
    """One gc under the lock."""

    _plan: GcPlan
    _before_removal: Callable[[], None]
    _on_stage: OnStage

    def run(self) -> GcReport:
        plan, marks = self._plan, self._plan.repository.marks
        rewritten = {pack.digest for pack in plan.repack.packs}
        remove_dead(plan.repository.paths.folder)
        current = marks.replace(
            {**plan.unreachable, MarkKind.PACK: plan.unreachable[MarkKind.PACK] | rewritten}, now_ns=plan.now_ns
        )
        oldest = read_oldest_round(plan.repository.paths.folder, current)
        plan.refresh()
        marked = {kind: marks.read(kind) for kind in MarkKind}
        held = plan.choose(marked, oldest=current)  # first, as the next choice keeps more
        deletable = plan.choose(marked, oldest=oldest)
        if any(deletable.values()):
            self._before_removal()
        swept = plan.sweep(deletable)
        removed, nbytes = self._remove([pack for pack in deletable[MarkKind.PACK] if not plan.is_live(pack)])
        droppable = {p for p in rewritten if p in marked[MarkKind.PACK] and marked[MarkKind.PACK][p].round <= oldest}
        repacked, made = self._rewrite({PackDigest(pack) for pack in droppable if plan.is_aged(pack)})
        left = {kind: set(marks.read(kind)) & plan.unreachable[kind] for kind in MarkKind}
        marks.replace(left, now_ns=plan.now_ns)
        return GcReport(
            commits=swept.commits,
            objects=swept.objects,
            packs=removed,
            nbytes=nbytes,
            waiting=len(plan.unreachable[MarkKind.PACK]) - len(held[MarkKind.PACK]),
            held=len(held[MarkKind.PACK]) - len(deletable[MarkKind.PACK]),
            in_use=plan.in_use,
            repacked=repacked,
            made=made,
            dry_run=False,
        )

    def _remove(self, packs: Sequence[bytes]) -> tuple[int, int]:
        """Return how many packs were deleted, and their disk bytes; keeps those whose number has changed."""
        tensors, marks = self._plan.repository.tensors, self._plan.repository.marks
        known = tensors.catalog.read_packs()
        numbered = [(self._plan.packs[PackDigest(pack)], PackDigest(pack)) for pack in packs]
        deletable = [(number, pack) for number, pack in numbered if known.get(number) == pack]
        sizes = {pack: self._plan.measure(pack) for _, pack in deletable}
        removed: list[PackDigest] = []
        with open_writer_folder(tensors.tmp_directory) as folder:
            for start in range(0, len(deletable), _PACKS_AT_ONCE):
                self._on_stage("removing packs", len(removed), len(deletable))
                some = dict(deletable[start : start + _PACKS_AT_ONCE])
                gone = remove_packs(tensors, some, folder, may_delete=lambda pack: marks.has(MarkKind.PACK, pack))
                removed += gone.values()
        return len(removed), sum(sizes[pack] for pack in removed)

    def _rewrite(self, droppable: Collection[PackDigest]) -> tuple[int, int]:
        """Return how many packs were rewritten, and how many they became; drops dead rows only of `droppable` ones."""
        plan, marks = self._plan, self._plan.repository.marks
        if not plan.repack.packs:
            return 0, 0
        report = rewrite_packs(
            plan.repository.tensors,
            plan.repack,
            find_kept=lambda pack: plan.reach.find_live(pack.number) if pack.digest in droppable else None,
            outside=[plan.packs[PackDigest(pack)] for pack in plan.unreachable[MarkKind.PACK]],
            on_made=lambda pack: marks.unmark(MarkKind.PACK, pack),
            may_delete=lambda pack: marks.has(MarkKind.PACK, pack),
            on_progress=lambda done, total: self._on_stage("rewriting packs", done, total),
        )
        return len(report.removed), len(report.made)


def run_gc(
    repository: Repository,
    *,
    grace: timedelta = GRACE,
    repack: bool = False,
    before_removal: Callable[[], None] = lambda: None,
    on_stage: OnStage = lambda *_: None,
) -> GcReport:
    """Plan and apply a gc."""
    on_stage("looking", 0, 0)
    repository.tensors.recover()
    return apply_gc(plan_gc(repository, grace=grace, repack=repack), before_removal=before_removal, on_stage=on_stage)
