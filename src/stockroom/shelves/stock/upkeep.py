"""What a handle does for upkeep: checking, mending, giving back disk, settings, and telling of the tie to git."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockroom.errors import InvalidInputError
from stockroom.shelves.stock.handle import Handle

if TYPE_CHECKING:
    from stockroom.remotes.gc import RemoteGcReport
    from stockroom.repository.tie_status import TieStatus
    from stockroom.repository.upkeep.chunk_owners import Tally
    from stockroom.repository.upkeep.gc import GcReport, OnStage
    from stockroom.repository.upkeep.repair import RepairReport
    from stockroom.repository.upkeep.usage import Usage
    from stockroom.repository.upkeep.verify import VerifyReport

_GRACE = timedelta(weeks=2)


class UpkeepActions(Handle):
    """The part of both handles that is about upkeep, and the tie to git."""

    def gc(
        self,
        dry_run: bool = False,
        grace: timedelta = _GRACE,
        *,
        repack: bool = False,
        on_stage: OnStage = lambda *_: None,
    ) -> GcReport:
        """Give back the disk of what nothing leads to any more: no ref, stage, HEAD or operation within `grace`.

        Safe beside readers and writers: what a writer at work may rely on stays, as does what has not been unneeded for
        the grace period. Nothing is fetched. An interrupted gc goes on when it is run again.

        Args:
            dry_run: only say what would go.
            grace: how long something must have been unneeded.
            repack: also merge small packs into large ones, and leave out what nothing needs of packs that stay. History
                does not change.
            on_stage: called with what is being done, how much of it is done, and how much there is.

        Raises `CorruptionError` where the repository is damaged: then nothing is removed.
        """
        from stockroom.remotes.tracking import forget_all_bundles
        from stockroom.repository.upkeep.gc import plan_gc, preview_gc, run_gc

        self._access.check_open()
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
        on_stage: OnStage = lambda *_: None,
    ) -> RemoteGcReport:
        """Give back what nothing on a remote leads to: no branch or tag there, and neither git's history nor HEAD here.

        What is found is marked on the remote, and removed by a later gc, once it has been marked for `grace` by the
        remote's own clock. A push that needs something marked keeps it. Safe beside others who push, fetch and clone;
        whoever reads what only a deleted branch led to has that time to bring it here.

        Args:
            remote: its name.
            dry_run: only say what would go; changes nothing there.
            grace: how long something must have been marked. With less than clones go without a fetch, what is written
                into them meanwhile may rely on samples that are gone when it is pushed.
            on_stage: called with what is being done, how much of it is done, and how much there is.

        Raises `CorruptionError` where the remote's metadata is damaged: then nothing is removed.
        """
        from stockroom.remotes.gc import collect_remote

        self._access.check_open()
        return collect_remote(self._repository, remote, grace=grace, dry_run=dry_run, on_stage=on_stage)

    def repair(self, *, on_progress: Callable[[int, int], None] | None = None) -> RepairReport:
        """Mend what `verify` finds: make all indexes anew, move damaged things aside, fetch them again.

        Nothing is deleted: what is moved aside lies in `.stockroom/damaged`. Remotes are asked only if something is
        lost that they may have.
        """
        from stockroom.remotes.restore import repair

        self._access.check_open()
        return repair(self._repository, on_progress=on_progress)

    def verify(
        self,
        sample: float | None = None,
        *,
        subset: tuple[int, int] | None = None,
        connectivity_only: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Check packs, objects, trees, history, the operation log, and all indexes; changes nothing.

        Args:
            sample: read the samples of this fraction of packs, chosen by chance; None for all.
            subset: (3, 10) reads those of the third tenth of packs, the same ones every time.
            connectivity_only: read no samples; look at names, sizes and what leads to what.
            on_progress: called with the number of packs done and their number in all.
        """
        from stockroom.repository.upkeep.verify import VerifyScope, verify_beside_others

        self._access.check_open()
        if sample is not None and not 0 < sample <= 1:
            raise InvalidInputError(f"expected a fraction of packs above 0 and up to 1, found {sample}")
        if subset is not None and not 1 <= subset[0] <= subset[1]:
            raise InvalidInputError(f"expected a part of packs such as 3 of 10, found {subset[0]} of {subset[1]}")
        scope = VerifyScope(sample=sample, subset=subset, connectivity_only=connectivity_only)
        return verify_beside_others(self._repository, scope=scope, on_progress=on_progress)

    def measure_usage(self) -> Usage:
        """What each thing in the handle's commit costs, what each branch does beyond the others, and the history.

        Reads metadata only: samples need not be on this machine.
        """
        from stockroom.repository.upkeep.usage import measure_usage

        self._access.check_open()
        return measure_usage(self._repository, self._access.snapshot)

    def measure_commits(self, ref: str = "HEAD") -> dict[str, Tally]:
        """What each commit that leads to `ref` added to those before it, by full hex id; the oldest first."""
        from stockroom.repository.upkeep.usage import measure_commits

        self._access.check_open()
        start = self._resolve(ref)
        return {commit.hex(): added for commit, added in measure_commits(self._repository, start)}

    @property
    def settings(self) -> Mapping[str, str | bool | float | None]:
        """The repository's own settings by key, such as `user.name`; None is what nobody has set. Read-only."""
        from stockroom.repository.config import KEYS, read_settings

        self._access.check_open()
        settings = read_settings(self._repository.paths.config)
        return MappingProxyType({key.name: getattr(settings, key.field) for key in KEYS})

    def change_setting(self, key: str, value: str | None) -> None:
        """Set one of the settings, or, for None, no longer; `InvalidInputError` for a key or value that cannot be."""
        from stockroom.repository.config import change_setting, find_key, read_settings, write_settings

        self._access.check_open()
        config = self._repository.paths.config
        write_settings(config, change_setting(read_settings(config), find_key(key), value))

    def find_git_commits(self) -> Mapping[str, str]:
        """Our commits and, for each that one of git's commits has in `head.stock`, the first such; full hex digests.

        Empty where git does not track `head.stock`. Raises `GitError` where git cannot be asked.
        """
        from stockroom.repository.git.history import find_carriers

        self._access.check_open()
        tie = self._repository.find_tie()
        carriers = {} if tie is None else find_carriers(tie)
        return MappingProxyType({commit.hex(): git_commit for commit, git_commit in carriers.items()})

    def describe_tie(self) -> TieStatus:
        """Whether git tracks `head.stock`, where both sides stand, and what is installed in git."""
        from stockroom.repository.tie_status import describe_tie

        self._access.check_open()
        return describe_tie(self._repository)
