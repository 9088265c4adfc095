"""A handle's methods for upkeep: verify, repair, gc, disk usage, settings, and the tie to git."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockroom.errors import InvalidInputError
from stockroom.shelves.stock.handle import Handle

if TYPE_CHECKING:
    from stockroom.remotes.gc import RemoteGcReport
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.remote_repair import RemoteRepairReport
    from stockroom.repository.tie_status import TieStatus
    from stockroom.repository.upkeep.chunk_owners import Tally
    from stockroom.repository.upkeep.gc import GcReport, OnStage
    from stockroom.repository.upkeep.repair import RepairReport
    from stockroom.repository.upkeep.usage import Usage
    from stockroom.repository.upkeep.verify import VerifyReport, VerifyScope

_GRACE = timedelta(weeks=2)


class UpkeepActions(Handle):
    """The methods of both kinds of handles that concern upkeep and the tie to git."""

    def gc(
        self,
        dry_run: bool = False,
        grace: timedelta = _GRACE,
        *,
        repack: bool = False,
        on_stage: OnStage = lambda *_: None,
    ) -> GcReport:
        """Delete everything unreachable from refs, stages, HEADs and the operations within `grace`, to free disk space.

        Safe beside readers and writers: it keeps everything that an active writer may rely on, and everything that
        became unreachable within the grace period. Fetches nothing. An interrupted gc resumes when it is run again.

        Args:
            dry_run: only report the planned deletions.
            grace: how long something must have been unreachable.
            repack: also merge small packs into large ones, and remove unreachable chunks from packs that stay. History
                does not change.
            on_stage: called with the current step, the amount done, and the total.

        Raises `CorruptionError` if the repository is damaged, and then deletes nothing.
        """
        from stockroom.remotes.tracking import forget_all_bundles
        from stockroom.repository.upkeep.gc import plan_gc, preview_gc, run_gc

        if dry_run:
            return preview_gc(plan_gc(self._repository, grace=grace, repack=repack))
        return run_gc(
            self._repository,
            grace=grace,
            repack=repack,
            before_removal=lambda: forget_all_bundles(self._repository.paths),
            on_stage=on_stage,
        )

    def gc_remote(
        self,
        remote: str = "origin",
        dry_run: bool = False,
        grace: timedelta = _GRACE,
        *,
        repack: bool = False,
        on_stage: OnStage = lambda *_: None,
    ) -> RemoteGcReport:
        """Delete everything on a remote that is unreachable from its refs, and from HEAD and git's history here.

        It marks unreachable things on the remote. A later gc deletes them once they have been marked for `grace` by the
        remote's clock. A push that needs a marked thing keeps it. Safe beside others who push, fetch and clone; they
        have the grace period to fetch the content of a deleted branch.

        Args:
            remote: the remote's name.
            dry_run: only report the planned deletions; changes nothing on the remote.
            grace: how long something must have been marked. If clones go longer than this without a fetch, new commits
                in them may rely on samples that are gone when they are pushed.
            repack: also copy the samples of small packs, and of those with many unreachable ones, into new packs. The
                old packs then count as unreachable.
            on_stage: called with the current step, the amount done, and the total.

        Raises `CorruptionError` if the remote's metadata is damaged, and then deletes nothing.
        """
        from stockroom.remotes.gc import collect_remote

        return collect_remote(self._repository, remote, grace=grace, dry_run=dry_run, repack=repack, on_stage=on_stage)

    def repair(self, *, on_progress: Callable[[int, int], None] | None = None) -> RepairReport:
        """Repair the damage that `verify` finds: rebuild all indexes, set damaged files aside, fetch them again.

        Deletes nothing: damaged files move to `.stockroom/damaged`. Contacts remotes only if something is lost that
        they may have.
        """
        from stockroom.remotes.restore import repair

        return repair(self._repository, on_progress=on_progress)

    def verify(
        self,
        sample: float | None = None,
        *,
        subset: tuple[int, int] | None = None,
        connectivity_only: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Check packs, objects, trees, history, the operation log and all indexes; changes nothing.

        Args:
            sample: read the samples of this fraction of packs, chosen at random; None for all.
            subset: (3, 10) reads the samples of the third tenth of packs, the same ones every time.
            connectivity_only: read no samples; check names, sizes and references only.
            on_progress: called with the number of packs done and their total.
        """
        from stockroom.repository.upkeep.verify import verify_beside_others

        scope = self._choose_scope(sample, subset, connectivity_only=connectivity_only)
        return verify_beside_others(self._repository, scope=scope, on_progress=on_progress)

    def verify_remote(
        self,
        remote: str = "origin",
        sample: float | None = None,
        *,
        subset: tuple[int, int] | None = None,
        connectivity_only: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Check that a remote holds everything that its refs need: metadata, history and packs; changes nothing.

        Downloads all metadata, and the packs that are read. The arguments choose packs as those of `verify` do.
        """
        from stockroom.remotes.remote_check import verify_remote

        scope = self._choose_scope(sample, subset, connectivity_only=connectivity_only)
        return verify_remote(self._repository, remote, scope=scope, on_progress=on_progress)

    def repair_remote(
        self,
        remote: str = "origin",
        *,
        on_verify: Callable[[int, int], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> RemoteRepairReport:
        """Verify everything that a remote holds, and send damaged and missing parts again if they are sound here.

        Downloads all metadata, and all packs except those that are here and equal by the store's own checksum.
        `on_verify` is called with the number of packs verified and their total.
        """
        from stockroom.remotes.remote_repair import repair_remote

        self._pin.check_open()
        return repair_remote(self._repository, remote, on_verify=on_verify, on_progress=on_progress)

    def _choose_scope(
        self, sample: float | None, subset: tuple[int, int] | None, *, connectivity_only: bool
    ) -> VerifyScope:
        from stockroom.repository.upkeep.verify import VerifyScope

        self._pin.check_open()
        if sample is not None and not 0 < sample <= 1:
            raise InvalidInputError(f"expected a fraction of packs above 0 and up to 1, found {sample}")
        if subset is not None and not 1 <= subset[0] <= subset[1]:
            raise InvalidInputError(f"expected a part of packs such as 3 of 10, found {subset[0]} of {subset[1]}")
        return VerifyScope(sample=sample, subset=subset, connectivity_only=connectivity_only)

    def measure_usage(self) -> Usage:
        """Return the disk usage of each thing in the handle's commit, each branch beyond the others, and the history.

        Reads only metadata; samples need not be on this machine.
        """
        from stockroom.repository.upkeep.usage import measure_usage

        return measure_usage(self._repository, self._pin.snapshot)

    def measure_commits(self, ref: str = "HEAD") -> dict[str, Tally]:
        """Return the data added by each commit reachable from `ref`, by full hex digest; oldest first."""
        from stockroom.repository.upkeep.usage import measure_commits

        start = self._resolve(ref)
        return {commit.hex(): added for commit, added in measure_commits(self._repository, start)}

    @property
    def settings(self) -> Mapping[str, str | bool | float | None]:
        """The repository's own settings by key, such as `user.name`; None if not set. Read-only."""
        from stockroom.repository.config import KEYS, read_settings

        settings = read_settings(self._repository.paths.config)
        return MappingProxyType({key.name: getattr(settings, key.field) for key in KEYS})

    def change_setting(self, key: str, value: str | None) -> None:
        """Set one of the settings, or unset it for None; raises `InvalidInputError` for an invalid key or value."""
        from stockroom.repository.config import change_setting, change_settings, get_setting

        known = get_setting(key)
        change_settings(self._repository.paths.config, lambda settings: change_setting(settings, known, value))

    def list_git_commits(self) -> Mapping[str, str]:
        """Return the commits that git's history names, each with its carrier, the first git commit to do so, in hex.

        Empty if git does not track `head.stock`. Raises `GitError` if git cannot be run.
        """
        from stockroom.repository.git.history import read_carriers

        tie = self._repository.find_tie()
        carriers = {} if tie is None else read_carriers(tie)
        return MappingProxyType({commit.hex(): git_commit for commit, git_commit in carriers.items()})

    def describe_tie(self) -> TieStatus:
        """Return whether git tracks `head.stock`, the commits of both sides, and the parts installed in git."""
        from stockroom.repository.tie_status import describe_tie

        return describe_tie(self._repository)
