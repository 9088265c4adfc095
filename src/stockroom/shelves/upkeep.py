"""What a handle does for a repository's upkeep: checking it, mending it, and giving back disk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from stockroom.errors import InvalidInputError

if TYPE_CHECKING:
    from stockroom.repository import Repository
    from stockroom.repository.gc import GcReport, OnStage
    from stockroom.repository.verify import VerifyReport
    from stockroom.shelves.access import Access

_GRACE = timedelta(weeks=2)


class _Handle(Protocol):
    _access: Access
    _repository: Repository


class UpkeepActions:
    """The part of `StockRoom` that is about upkeep."""

    def gc(
        self: _Handle,
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
        from stockroom.repository.gc import plan_gc, preview_gc, run_gc

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

    def verify(
        self: _Handle, sample: float | None = None, *, on_progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Check digests, trees and refs; `sample` is the fraction of packs to read, None for all.

        `on_progress` is called with the number of packs done and their number in all.
        """
        from stockroom.repository.verify import verify_repository

        self._access.check_open()
        if sample is not None and not 0 < sample <= 1:
            raise InvalidInputError(f"expected a fraction of packs above 0 and up to 1, found {sample}")
        return verify_repository(self._repository, sample=sample, on_progress=on_progress)
