"""Chooses the packs of a push: the remote gets packs of a good size, with the rows that it lacks and few others.

Content is found by its digest, so rows may travel in other packs than those in which they were written. The packs that
are made for a push stay here too: what a remote holds can then be dropped here, and fetched again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import StockroomError
from stockroom.refs.marks import MarkKind
from stockroom.remotes.push_plan import PushContents
from stockroom.repository.repository import Repository
from stockroom.store.index.small_packs import is_small
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import read_manifest
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.upkeep.removal import try_lock_removal
from stockroom.store.upkeep.repack import is_wasteful, remove_superseded
from stockroom.store.upkeep.row_copier import PlannedPack, RowCopier, describe_pack


def regroup_packs(repository: Repository, contents: PushContents, sent: Collection[PackDigest]) -> list[PlannedPack]:
    """Replace packs in `contents` that are small, or more than a quarter unneeded, by new ones; return those replaced.

    Packs that were `sent` before stay, and so do partial ones. From now on, writers join none of them with others. The
    caller keeps packs from being removed (`forbid_removal`). If the disk is full, the packs stay as they are.
    """
    replaced: list[PlannedPack] = []
    if groups := _group_unfit(repository, contents.packs, sent):
        copier = RowCopier(
            repository.tensors, on_made=lambda pack: repository.marks.unmark(MarkKind.PACK, pack), may_join=False
        )
        try:
            with suppress(OSError):
                for group in groups:
                    _replace(repository, contents.packs, group, copier)
                    replaced += group
        finally:
            copier.close()
    repository.tensors.catalog.keep_apart(contents.packs)
    return replaced


def remove_replaced(repository: Repository, packs: Sequence[PlannedPack]) -> None:
    """Remove those of `packs` whose rows are all in others, unless another process keeps packs from being removed."""
    if packs:
        with suppress(StockroomError, OSError, StalePackError), try_lock_removal(repository.tensors) as is_free:
            if is_free:
                remove_superseded(repository.tensors, packs)


def _group_unfit(
    repository: Repository, packs: Mapping[PackDigest, NDArray[np.bool_]], sent: Collection[PackDigest]
) -> list[list[PlannedPack]]:
    """Return the packs to replace, by kind: not a pack that is alone and has no other rows."""
    tensors, kinds = repository.tensors, defaultdict(list)
    numbers = {number: digest for number, digest in tensors.catalog.read_packs().items() if digest in packs}
    joinable = tensors.catalog.select_joinable(numbers)
    for number, digest in numbers.items():
        if digest not in sent and not (number not in joinable and packs[digest].all()):
            pack = tensors.cache.get(number)
            planned = describe_pack(number, pack)
            is_unfit = is_small(planned.nbytes, planned.rows) or is_wasteful(pack, packs[digest])
            if is_unfit and pack.presence is None:
                kinds[planned.kind].append(planned)
    return [group for group in kinds.values() if len(group) > 1 or not packs[group[0].digest].all()]


def _replace(
    repository: Repository,
    packs: dict[PackDigest, NDArray[np.bool_]],
    group: Sequence[PlannedPack],
    copier: RowCopier,
) -> None:
    """Copy the needed rows of packs of one kind into new packs, which take their place in `packs`."""
    directory, before = repository.tensors.packs_directory, len(copier.made)
    for planned in group:
        pack = Pack(locate_pack(directory, planned.digest), planned.digest, careful=True)
        copier.copy(planned, pack, np.flatnonzero(packs[planned.digest]), set())
    copier.finish()
    for planned in group:
        del packs[planned.digest]
    for digest in copier.made[before:]:
        packs[digest] = np.ones(read_manifest(locate_pack(directory, digest)).rows, bool)
