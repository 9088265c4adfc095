"""Checks that a repository is complete and intact: packs, objects, trees, history, and all indexes of them.

Reads only. Each finding names the damage, its users, and the remedy. Damage in one part does not affect the
findings about others.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from stockroom.errors import (
    CorruptionError,
    FormatVersionError,
    LockedError,
    ReadOnlyError,
    StockroomError,
    UnreadableError,
)
from stockroom.files import exists
from stockroom.kv import check_structure
from stockroom.repository.paths import CATALOG_NAME
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.connectivity import Connectivity
from stockroom.repository.upkeep.lost_chunks import LostChunks
from stockroom.store.pack.layout import list_pack_directories, locate_pack
from stockroom.store.upkeep.removal import forbid_removal
from stockroom.store.upkeep.verify import (
    REPAIR,
    Damage,
    PackFindings,
    Unchecked,
    check_pack,
    describe_unchecked,
    says_damage,
)

_PATIENCE_S: Final = 60.0
_OBJECTS_AT_ONCE: Final = 1024


@dataclass(slots=True)
class VerifyReport:
    """The counts of things checked, and the damage found; `nbytes` of samples were read and hashed.

    `unchecked` lists the things that could not be read, for a reason that may pass. They may be whole.
    """

    packs: int = 0
    commits: int = 0
    objects: int = 0
    chunks: int = 0
    operations: int = 0
    nbytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything could be checked, and no damage was found."""
        return not (self.damage or self.unchecked)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyScope:
    """The packs whose samples are read: all, a random fraction `sample`, the part `subset` (n, of m), or none."""

    sample: float | None = None
    subset: tuple[int, int] | None = None
    connectivity_only: bool = False

    def choose(self, directories: list[Path]) -> set[Path]:
        """Return the packs to read. A subset has the same packs every time; all subsets together have all packs."""
        if self.connectivity_only:
            return set()
        if self.subset is not None:
            part, parts = self.subset
            return {directory for directory in directories if int(directory.name[:8], 16) % parts == part - 1}
        if self.sample is not None and self.sample < 1:
            count = max(1, round(self.sample * len(directories)))
            return set(random.sample(directories, min(count, len(directories))))
        return set(directories)


def verify_repository(
    repository: Repository, *, scope: VerifyScope | None = None, on_progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Verify packs, objects, indexes, and everything reachable from refs, stages and HEAD.

    `on_progress` is called with the number of packs read and the total.
    """
    report = VerifyReport()
    lost = LostChunks()
    has_catalog = _verify_catalog(repository, report)
    found = _verify_packs(repository, report, lost, scope or VerifyScope(), on_progress)
    if has_catalog:
        found += _list_missing_packs(repository, report, lost)
        report.damage += _check_index(repository, report)
    connectivity = Connectivity(repository, lost if has_catalog else None)
    with repository.tensors.cache.avoid(lost.unchecked) if has_catalog else nullcontext():
        connectivity.run()
    found += _verify_objects(repository, report, connectivity.checked_objects)
    report.damage += [connectivity.name_dependents(damage) for damage in found]
    report.damage += connectivity.damage
    report.unchecked += connectivity.unchecked
    report.commits, report.chunks, report.operations = connectivity.counts
    return report


def verify_beside_others(
    repository: Repository, *, scope: VerifyScope | None = None, on_progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Verify while gc may run: if anything looks damaged, verify again while removal is forbidden."""
    report = verify_repository(repository, scope=scope, on_progress=on_progress)
    is_random = scope is not None and scope.sample is not None  # another sample would have other packs
    if not report.damage or is_random:
        return report
    if any(damage.where == CATALOG_NAME for damage in report.damage):  # it must not be opened
        return report
    try:
        with forbid_removal(repository.tensors, timeout_s=_PATIENCE_S):
            repository.tensors.index.refresh()
            repository.tensors.cache.forget()
            return verify_repository(repository, scope=scope, on_progress=on_progress)
    except (LockedError, ReadOnlyError, CorruptionError):  # the last: the catalog itself is damaged
        return report


def _verify_catalog(repository: Repository, report: VerifyReport) -> bool:
    """Return whether the catalog can be read; if not, report why."""
    try:
        check_structure(repository.paths.folder / CATALOG_NAME)  # first: LMDB would trust a damaged file
        repository.tensors.catalog.read_packs()
        repository.tensors.catalog.read_tables()
    except FormatVersionError as error:  # noise may look like one, and it can be rebuilt
        report.damage.append(Damage(CATALOG_NAME, str(error), REPAIR))
        return False
    except StockroomError as error:
        _sort(report, Damage(CATALOG_NAME, str(error), REPAIR), error)
        return False
    return True


def _verify_packs(
    repository: Repository,
    report: VerifyReport,
    lost: LostChunks,
    scope: VerifyScope,
    on_progress: Callable[[int, int], None] | None,
) -> list[Damage]:
    directories = list_pack_directories(
        repository.paths.folder / "packs",
        on_unreadable=lambda error: report.unchecked.append(describe_unchecked("packs", error)),
    )
    chosen = scope.choose(directories)
    damage: list[Damage] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="stockroom-verify") as pool:
        for directory in directories:
            findings = check_pack(directory, read_rows=directory in chosen, apply=pool.map)
            damage += findings.damage
            report.unchecked += findings.unchecked
            report.nbytes += findings.nbytes
            lost.add(directory.name, findings)
            if directory in chosen or scope.connectivity_only:
                report.packs += 1
                if on_progress is not None:
                    on_progress(report.packs, len(directories) if scope.connectivity_only else len(chosen))
    return damage


def _list_missing_packs(repository: Repository, report: VerifyReport, lost: LostChunks) -> list[Damage]:
    damage = []
    for number, digest in repository.tensors.catalog.read_packs().items():
        try:
            is_missing = not exists(locate_pack(repository.tensors.packs_directory, digest))
        except UnreadableError as error:
            is_missing = False
            unchecked = describe_unchecked(f"pack {digest.hex()}", error)
            report.unchecked.append(unchecked)
            lost.add(digest.hex(), PackFindings((), (unchecked,), None, 0))
        lost.number(digest.hex(), number, is_missing=is_missing)
        if is_missing:
            damage.append(Damage(f"pack {digest.hex()}", "is in the catalog but not on disk", REPAIR))
    return damage


def _check_index(repository: Repository, report: VerifyReport) -> list[Damage]:
    damage: list[Damage] = []
    try:
        damage += [Damage("index", problem, REPAIR) for problem in repository.tensors.index.iter_problems()]
    except StockroomError as error:
        _sort(report, Damage("index", str(error), REPAIR), error)
    return damage


def _verify_objects(repository: Repository, report: VerifyReport, checked: Set[bytes]) -> list[Damage]:
    """Verify the objects on disk that are not `checked` yet; count them all."""
    damage: list[Damage] = []
    digests = repository.objects.iter_digests()
    while some := list(islice(digests, _OBJECTS_AT_ONCE)):
        report.objects += len(some)
        unchecked = [digest for digest in some if digest not in checked]
        for digest, error in repository.objects.list_damaged(unchecked):
            damage.append(Damage(f"object {digest.hex()}", str(error), REPAIR))
    return damage


def _sort(report: VerifyReport, damage: Damage, error: Exception) -> None:
    """Report an error: as damage if it says that bytes are wrong, else as something that could not be checked."""
    if says_damage(error):
        report.damage.append(damage)
    else:
        report.unchecked.append(describe_unchecked(damage.where, error))
