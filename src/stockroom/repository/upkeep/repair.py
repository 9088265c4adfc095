"""Repairs a repository on this machine: rebuilds indexes, moves damaged things aside, keeps sound rows.

Nothing is deleted: removed things are in `.stockroom/damaged`. Restoring from a remote is the job of the layer above
(`remotes.restore`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, FormatVersionError, StockroomError, UnreadableError
from stockroom.files import exists, replace_own_file
from stockroom.kv import check_structure
from stockroom.repository.lease import acquire_lease
from stockroom.repository.paths import CATALOG_NAME
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.verify import verify_repository
from stockroom.store.pack.exchange import finish_exchanges
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.pack.writer_folder import collect_leftovers
from stockroom.store.upkeep.mend import (
    bring_back,
    choose_free_name,
    clear_presence,
    remake_metadata,
    remake_presence,
    salvage_rows,
    set_aside,
)
from stockroom.store.upkeep.removal import lock_removal
from stockroom.store.upkeep.verify import Damage, Unchecked, describe_unchecked

_PATIENCE_S: Final = 10.0
_ASIDE: Final = "damaged"


@dataclass(slots=True)
class RepairReport:
    """The result of a repair.

    Attributes:
        found: the damage before.
        unchecked: things that could not be read or repaired now; they were left as they are.
        done: the repairs, in words.
        lost_packs: packs moved aside or missing, which a remote may have.
        lost_records: how many objects and commits were moved aside or are missing.
        left: the damage after.
    """

    found: list[Damage]
    done: list[str] = field(default_factory=list)
    lost_packs: list[PackDigest] = field(default_factory=list)
    lost_records: int = 0
    left: list[Damage] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything could be checked in the end, and no damage is left."""
        return not (self.left or self.unchecked)


def repair_repository(repository: Repository, *, on_progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Repair everything that can be repaired locally. The caller verifies again to complete `left` and `unchecked`.

    Raises `LockedError` while another process writes to the stage, fetches, or removes packs.
    """
    aside = repository.paths.folder / _ASIDE
    with acquire_lease(repository.paths.lease, timeout_s=_PATIENCE_S):
        set_aside_catalog = _mend_catalog(repository, aside)
        with lock_removal(repository.tensors, timeout_s=_PATIENCE_S):
            finish_exchanges(repository.tensors.packs_directory)
            done = set_aside_catalog + _bring_back(repository, aside)
            verified = verify_repository(repository, on_progress=on_progress)
            report = RepairReport(verified.damage, done)
            _mend_packs(repository, report, aside, unread=set(_list_names(verified.unchecked, "pack")))
            _mend_indexes(repository, report)
            _mend_records(repository, report, aside)
    return report


def _mend_catalog(repository: Repository, aside: Path) -> list[str]:
    """Start a new catalog if the old one is damaged; return the repairs in words."""
    try:
        check_structure(repository.paths.folder / CATALOG_NAME)
        repository.tensors.catalog.read_packs()
        repository.tensors.catalog.read_tables()
        return []
    except (CorruptionError, FormatVersionError) as error:
        repository.forget_tensors()
        for name in (CATALOG_NAME, "index"):
            folder = repository.paths.folder / name
            if folder.exists():
                folder.rename(choose_free_name(aside, name))
        return [f"catalog: replaced ({error})"]


def _bring_back(repository: Repository, aside: Path) -> list[str]:
    back = bring_back(repository.tensors, aside / "packs")
    return [f"pack {digest.hex()}: is intact, and was moved back from {_ASIDE}" for digest in back]


def _mend_packs(repository: Repository, report: RepairReport, aside: Path, *, unread: Collection[str]) -> None:
    for name in dict.fromkeys(_list_names(report.found, "pack")):
        if name in unread:
            continue
        try:
            _mend_pack(repository, report, PackDigest(bytes.fromhex(name)), aside)
        except (StockroomError, OSError) as error:  # a full disk, a file that cannot be read: it stays where it is
            report.unchecked.append(describe_unchecked(f"pack {name}", error))


def _mend_pack(repository: Repository, report: RepairReport, digest: PackDigest, aside: Path) -> None:
    tensors, name = repository.tensors, f"pack {digest.hex()}"
    directory = locate_pack(tensors.packs_directory, digest)
    if remake_metadata(directory):
        report.done.append(f"{name}: rewrote its zarr.json")
    elif exists(directory / PRESENCE_NAME) and (
        clear_presence(directory) or remake_presence(directory, tensors.tmp_directory)
    ):
        report.done.append(f"{name}: rebuilt its presence map")
    else:
        report.done.append(f"{name}: {_take_out(repository, digest, directory, aside)}")
        report.lost_packs.append(digest)


def _take_out(repository: Repository, digest: PackDigest, directory: Path, aside: Path) -> str:
    kept, rows = salvage_rows(repository.tensors, directory)
    moved = set_aside(repository.tensors, digest, aside / "packs")
    if moved is None:
        return "is not on disk, removed from the catalog"
    return f"moved to {moved.relative_to(repository.paths.root)}; {kept} of {rows or 'its'} chunks kept"


def _mend_indexes(repository: Repository, report: RepairReport) -> None:
    """Rebuild everything that is derived from packs and commits."""
    tensors = repository.tensors
    tensors.register(collect_leftovers(tensors.tmp_directory, tensors.packs_directory))
    try:
        tensors.index.rebuild()
        tensors.recover()
        report.done.append("location tables and catalog: rebuilt from the packs")
    except UnreadableError as error:  # they would leave the pack out
        report.unchecked.append(describe_unchecked("location tables and catalog", error))
    links = repository.refs.rebuild_links()
    report.done.append(f"commit graph: rebuilt {links} links")


def _mend_records(repository: Repository, report: RepairReport, aside: Path) -> None:
    """Move damaged objects and commits aside, so that a remote's can take their place."""
    for kind, db in (("object", "objects"), ("commit", "commits")):
        for name in dict.fromkeys(_list_names(report.found, kind)):
            path = choose_free_name(aside / db, name)
            if repository.refs.take_damaged(db, bytes.fromhex(name), partial(replace_own_file, path)):
                report.done.append(f"{kind} {name}: moved to {path.relative_to(repository.paths.root)}")
    report.lost_records = sum("missing from this repository" in damage.what for damage in report.found)
    report.lost_records += sum(done.startswith(("object ", "commit ")) for done in report.done)


def _list_names(findings: Sequence[Damage | Unchecked], kind: str) -> Iterator[str]:
    for item in findings:
        what, _, name = item.where.partition(" ")
        if what == kind and len(name) == 64:
            yield name
