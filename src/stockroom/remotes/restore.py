"""Restores from remotes the data a repair could not mend: metadata first, then the lost packs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from stockroom.errors import StockroomError
from stockroom.remotes.fetch import fetch
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.settings import read_remotes
from stockroom.remotes.tracking import forget_all_bundles
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.repair import RepairReport, repair_repository
from stockroom.repository.upkeep.verify import verify_beside_others


def repair(repository: Repository, *, on_progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Repair from local data, then from remotes, which are asked only if something is lost."""
    report = repair_repository(repository, on_progress=on_progress)
    if report.lost_packs or report.lost_records:
        for name in read_remotes(repository.paths):
            _restore(repository, name, report)
        _fetch_rest(repository, report)
        repository.refs.rebuild_links()
    verified = verify_beside_others(repository, on_progress=on_progress)
    report.left = verified.damage
    known = {item.where for item in verified.unchecked}
    report.unchecked = [*verified.unchecked, *(item for item in report.unchecked if item.where not in known)]
    return report


def _restore(repository: Repository, remote: str, report: RepairReport) -> None:
    """Take in all metadata of a remote again, as if for the first time."""
    forget_all_bundles(repository.paths)
    try:
        found = fetch(repository, remote)
    except StockroomError as error:
        report.done.append(f"remote {remote}: not searched ({error})")
        return
    if found.objects or found.commits or found.packs:
        report.done.append(
            f"remote {remote}: restored {found.objects} objects, {found.commits} commits, {found.packs} packs"
        )


def _fetch_rest(repository: Repository, report: RepairReport) -> None:
    """Fetch the lost packs that are known again, whole."""
    repository.tensors.index.refresh()
    known = set(repository.tensors.catalog.read_packs().values())
    again = [pack for pack in report.lost_packs if pack in known]
    if not again:
        return
    with closing(make_agent_fetcher(repository.paths)) as fetcher:
        try:
            fetcher.fetch_packs(again)
            report.done.append(f"packs: {len(again)} fetched again")
        except StockroomError as error:
            report.done.append(f"packs: {len(again)} will be fetched when they are read ({error})")
    repository.tensors.cache.forget()
