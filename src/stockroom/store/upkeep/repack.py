"""Rewrites packs: small ones into larger ones, or all into another codec. Digests, and so history, never change.

It may be interrupted at any time. New packs are on disk and registered before old ones leave the catalog, and old ones
leave the catalog before their folders are deleted. Packs with absent units are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.store.codecs import AUTO, check_codec
from stockroom.store.index.chunk_search import NOWHERE
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.index.small_packs import SMALL_NBYTES, is_small
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import read_manifest
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.pack.pack_lock import PLACE_TIMEOUT_S
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.removal import lock_removal, remove_packs
from stockroom.store.upkeep.row_copier import PlannedPack, RowCopier, describe_pack

_MAX_UNREACHABLE_PART = 0.25
_ROWS_AT_ONCE = 1 << 18
_ROWS_A_PACK = 512
"""Looking up a pack costs about as much as looking up this many rows."""

_MAX_KEPT_ROWS = 1 << 20
"""How many digests of planned packs stay in memory from the first look-up to the second."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the raw bytes done and the raw bytes in total."""
FindLive: TypeAlias = Callable[[int], NDArray[np.bool_] | None]
"""Returns which rows of a pack, by its number, are needed, as `(rows,)`; None if none is."""
FindKept: TypeAlias = Callable[[PlannedPack], NDArray[np.bool_] | None]
"""Returns which rows of a pack are kept, as `(rows,)`; None for all."""


@dataclass(frozen=True, slots=True)
class RepackPlan:
    """The packs to rewrite."""

    packs: tuple[PlannedPack, ...]

    @property
    def nbytes(self) -> int:
        """Raw bytes to rewrite."""
        return sum(pack.nbytes for pack in self.packs)


@dataclass(frozen=True, slots=True)
class RepackReport:
    """The packs made and the packs removed."""

    made: tuple[PackDigest, ...]
    removed: tuple[PackDigest, ...]


def plan_repack(
    store: TensorStore,
    *,
    codec: str | None = None,
    small_nbytes: int = SMALL_NBYTES,
    find_live: FindLive | None = None,
    may_be_partial: bool = False,
) -> RepackPlan:
    """Plan to rewrite whole packs that have another codec than `codec`, or less than `small_nbytes` if several fit one.

    With `codec` None each pack keeps its codec; `auto` chooses again for each pack that is rewritten anyway. With
    `find_live`, also packs that are more than a quarter dead; never packs that are entirely dead. With
    `may_be_partial`, also packs that are not whole: their rows come from elsewhere.
    """
    if codec is not None:
        check_codec(codec)
    kinds = defaultdict(list)
    for number, pack in _iter_packs(store):
        if pack.presence is not None and not may_be_partial:
            continue
        live = None if find_live is None else find_live(number)
        if find_live is not None and live is None:
            continue
        planned = describe_pack(number, pack, codec)
        differs = codec not in (None, AUTO, str(pack.layout.codec)) or (live is not None and is_wasteful(pack, live))
        if differs or is_small(planned.nbytes, planned.rows, small_nbytes=small_nbytes):
            kinds[planned.kind].append((differs, planned))
    worthwhile = [group for group in kinds.values() if len(group) > 1 or group[0][0]]
    return RepackPlan(tuple(planned for group in worthwhile for _, planned in group))


def repack(store: TensorStore, plan: RepackPlan, *, on_progress: OnProgress | None = None) -> RepackReport:
    """Carry out `plan`; raises `LockedError` if another process is removing packs.

    Raises, with nothing removed, `DigestMismatchError` if a chunk does not match its digest, and `UnreadableError` if
    one cannot be read.
    """
    with lock_removal(store):
        report = rewrite_packs(store, plan, on_progress=on_progress)
    store.index.merge()
    return report


def rewrite_packs(
    store: TensorStore,
    plan: RepackPlan,
    *,
    find_kept: FindKept = lambda _: None,
    outside: Collection[int] = (),
    on_made: Callable[[PackDigest], None] = lambda _: None,
    may_delete: Callable[[PackDigest], bool] = lambda _: True,
    on_progress: OnProgress | None = None,
    opened: Mapping[int, Pack] = MappingProxyType({}),
    timeout_s: float = PLACE_TIMEOUT_S,
) -> RepackReport:
    """Carry out `plan`; the caller holds the removal lock.

    Raises `LockedError` if other processes move packs for `timeout_s`: then old packs stay beside the new ones.

    Args:
        find_kept: returns which rows of a pack, `(rows,)`, are kept; None for all.
        outside: packs whose copies of rows do not count, since the packs are about to be removed.
        on_made: called with each new pack before it is in its place.
        may_delete: asked for each old pack when no process can start to rely on it; if false, the pack stays.
        on_progress: called as packs are done.
        opened: packs of the plan, by number, that the caller has opened `careful` since it took the lock.
        timeout_s: how long to wait for processes that move packs.
    """
    copier = RowCopier(store, on_made=on_made)
    try:
        rewriter = _Rewriter(store, plan, find_kept, outside, opened)
        _rewrite(rewriter, copier, plan, on_progress)
        copier.finish()
        removed = {pack.number: pack.digest for pack in rewriter.list_superseded({*copier.made})}
        removed = remove_packs(store, removed, copier.directory, may_delete=may_delete, timeout_s=timeout_s)
    finally:
        copier.close()
    return RepackReport(tuple(copier.made), tuple(removed.values()))


def remove_superseded(store: TensorStore, packs: Sequence[PlannedPack]) -> int:
    """Remove those of `packs` whose rows are all in whole packs beside them; the caller holds the removal lock.

    Returns their number. Raises `LockedError` if other processes move packs.
    """
    found = _Rewriter(store, RepackPlan(tuple(packs)), lambda _: None, (), {}).list_superseded(())
    with open_writer_folder(store.tmp_directory) as folder:
        return len(remove_packs(store, {pack.number: pack.digest for pack in found}, folder))


def _rewrite(rewriter: _Rewriter, copier: RowCopier, plan: RepackPlan, on_progress: OnProgress | None) -> None:
    done = 0
    for batch in _split_packs(sorted(plan.packs, key=lambda pack: (repr(pack.kind), pack.number))):
        for planned in rewriter.add(batch, copier):
            done += planned.nbytes
            if on_progress is not None:
                on_progress(done, plan.nbytes)


def _split_packs(packs: Sequence[PlannedPack]) -> Iterator[Sequence[PlannedPack]]:
    """Yield runs of packs to look up at once."""
    batches = np.cumsum([_ROWS_A_PACK + pack.rows for pack in packs]) // _ROWS_AT_ONCE
    starts = [0, *(np.flatnonzero(np.diff(batches)) + 1).tolist(), len(packs)]
    for start, stop in pairwise(starts):
        yield packs[start:stop]


def _iter_packs(store: TensorStore) -> Iterator[tuple[int, Pack]]:
    for number in store.catalog.read_packs():
        with suppress(StalePackError):
            yield number, store.cache.get(number)


def is_wasteful(pack: Pack, live: NDArray[np.bool_]) -> bool:
    """Return whether more than a quarter of a pack's bytes are in rows that are not needed."""
    nbytes = pack.measure_rows(np.arange(pack.rows))
    return int(nbytes[~live].sum()) > _MAX_UNREACHABLE_PART * int(nbytes.sum())


class _Rewriter:
    """Copies the rows of planned packs that are not elsewhere, and finds the packs that are then superseded."""

    def __init__(
        self,
        store: TensorStore,
        plan: RepackPlan,
        find_kept: FindKept,
        outside: Collection[int],
        opened: Mapping[int, Pack],
    ) -> None:
        self._store = store
        self._plan = plan
        self._find_kept = find_kept
        self._opened = opened
        self._planned = {*(planned.number for planned in plan.packs)}
        self._outside = {*self._planned, *outside}
        self._left: set[int] = set()
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._kept_rows = 0

    def add(self, batch: Sequence[PlannedPack], copier: RowCopier) -> Iterator[PlannedPack]:
        """Write the rows of packs that are kept and that no whole pack outside the plan holds; yield each when done."""
        found = self._list_dispensable(batch)
        written = set(copier.unfinished)
        for planned, is_dispensable in found:
            pack = self._opened.get(planned.number)
            if pack is None:
                pack = Pack(locate_pack(self._store.packs_directory, planned.digest), planned.digest, careful=True)
            if pack.presence is None:
                copier.copy(planned, pack, np.flatnonzero(~is_dispensable), written)
            else:  # dropped since it was planned
                self._left.add(planned.number)
            yield planned

    def list_superseded(self, made: Collection[PackDigest]) -> list[PlannedPack]:
        """Return the planned packs that are no longer needed, since others hold their rows, such as those `made`."""
        self._left |= {planned.number for planned in self._plan.packs if planned.digest in made}
        self._outside -= self._left & self._planned
        left = [planned for planned in self._plan.packs if planned.number not in self._left]
        found = [each for batch in _split_packs(left) for each in self._list_dispensable(batch)]
        return [planned for planned, is_dispensable in found if is_dispensable.all()]

    def _list_dispensable(self, batch: Sequence[PlannedPack]) -> list[tuple[PlannedPack, NDArray[np.bool_]]]:
        """Return which rows of each pack, `(rows,)`, are not kept or in a whole pack that stays; omit removed packs."""
        here = [planned for planned in batch if self._is_here(planned)]
        if not here:
            return []
        digests = [self._read_digests(planned) for planned in here]
        stops = np.cumsum([len(some) for some in digests])
        is_elsewhere = np.split(self._is_elsewhere(np.concatenate(digests)), stops[:-1])
        kept = map(self._find_kept, here)
        return [
            (planned, found if rows is None else found | ~rows)
            for planned, found, rows in zip(here, is_elsewhere, kept, strict=True)
        ]

    def _read_digests(self, planned: PlannedPack) -> NDArray[np.uint8]:
        opened, kept = self._opened.get(planned.number), self._kept.get(planned.number)
        if opened is not None:
            return opened.manifest.digests
        if kept is None:
            kept = read_manifest(locate_pack(self._store.packs_directory, planned.digest)).digests
            self._kept_rows += len(kept)
            if self._kept_rows <= _MAX_KEPT_ROWS:
                self._kept[planned.number] = kept
        return kept

    def _is_here(self, planned: PlannedPack) -> bool:
        if planned.number in self._opened:
            return True
        self._store.catalog.forget(planned.number)
        return self._store.catalog.find_digest(planned.number) == planned.digest

    def _is_elsewhere(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether each chunk is in a whole pack that stays, as `(n,)`."""
        while True:
            found = self._store.find(digests, outside=self._outside)
            is_found = np.not_equal(found, NOWHERE)
            packs = np.unique(found[is_found] >> ROW_BITS).tolist()
            partial = {number for number in packs if self._store.cache.get(number).presence is not None}
            if not partial:
                return is_found
            self._outside |= partial
