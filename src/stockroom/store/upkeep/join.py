"""Joins small packs as writers add them: their number grows like the logarithm of the number of commits.

Packs of one kind and about one size are a group (`small_packs`). Once there are `FANOUT` of them, they become one pack
of the next tier, as in a log-structured merge tree. So each row is rewritten a few times in all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, StockroomError, UnreadableError
from stockroom.files import is_exhaustion
from stockroom.store.index.small_packs import FANOUT
from stockroom.store.pack.layout import PACK_MAX_ROWS, PACK_TARGET_NBYTES, locate_pack
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.removal import try_lock_removal
from stockroom.store.upkeep.repack import RepackPlan, rewrite_packs
from stockroom.store.upkeep.row_copier import PlannedPack, describe_pack

_MAX_PACKS: Final = 2 * FANOUT
_PATIENCE_S: Final = 0.05


def join_packs(
    store: TensorStore,
    *,
    list_spared: Callable[[], Collection[bytes]] = tuple,
    on_made: Callable[[PackDigest], None] = lambda _: None,
) -> int:
    """Join the groups of small packs that are due, as far as nothing prevents it; returns how many packs are gone.

    It does a bounded amount of work, waits for no other process, and raises nothing if it fails: all packs are then as
    useful as before. If a pack cannot be read, its group stays as it is.

    Args:
        list_spared: returns the packs to leave alone, such as those that gc has marked.
        on_made: called with each new pack before it is in its place.
    """
    joined = 0
    with suppress(StockroomError, OSError, StalePackError):
        if store.catalog.read_due():
            with try_lock_removal(store) as is_free:
                joined = _join_due(store, list_spared(), on_made) if is_free else 0
    return joined


def _join_due(store: TensorStore, spared: Collection[bytes], on_made: Callable[[PackDigest], None]) -> int:
    """Join groups, also those that become due meanwhile, until none is left or it is enough for now."""
    joined, left_nbytes = 0, PACK_TARGET_NBYTES
    while due := store.catalog.read_due():
        group = due[0]
        opened = _open_joinable(store, group, spared)
        packs = _choose([describe_pack(number, pack) for number, pack in opened.items()], left_nbytes)
        if len(packs) < 2 and left_nbytes < PACK_TARGET_NBYTES:
            break  # the next commit goes on
        gone = _join(store, RepackPlan(packs), opened, on_made) if len(packs) > 1 else 0
        joined += gone
        left_nbytes -= sum(pack.nbytes for pack in packs)
        if not gone or len(store.catalog.read_small(group, FANOUT)) < FANOUT:
            store.catalog.forget_due(group)
    return joined


def _open_joinable(store: TensorStore, group: bytes, spared: Collection[bytes]) -> dict[int, Pack]:
    """Return the packs of a group that can be joined, oldest first; the others are kept apart from now on."""
    found: dict[int, Pack] = {}
    apart: list[PackDigest] = []
    for number in store.catalog.read_small(group, _MAX_PACKS):
        digest = store.catalog.find_digest(number)
        if digest is None:
            continue
        try:
            pack = Pack(locate_pack(store.packs_directory, digest), digest, careful=True)
        except (CorruptionError, UnreadableError) as error:
            if _is_passing(error):
                raise
            apart.append(digest)
            continue
        if pack.presence is None and digest not in spared:
            found[number] = pack
        else:
            apart.append(digest)
    if apart:
        store.catalog.keep_apart(apart)
    return found


def _choose(packs: Sequence[PlannedPack], max_nbytes: int) -> tuple[PlannedPack, ...]:
    """Return the first packs that fit together into one of `max_nbytes`."""
    nbytes = np.cumsum([pack.nbytes for pack in packs])
    rows = np.cumsum([pack.rows for pack in packs])
    return tuple(packs[: int(np.count_nonzero((nbytes <= max_nbytes) & (rows <= PACK_MAX_ROWS)))])


def _join(
    store: TensorStore, plan: RepackPlan, opened: Mapping[int, Pack], on_made: Callable[[PackDigest], None]
) -> int:
    try:
        return len(rewrite_packs(store, plan, on_made=on_made, opened=opened, timeout_s=_PATIENCE_S).removed)
    except (CorruptionError, UnreadableError) as error:
        if not _is_passing(error):
            store.catalog.keep_apart([pack.digest for pack in plan.packs])
        raise


def _is_passing(error: CorruptionError | UnreadableError) -> bool:
    """Return whether the pack may be as it should, and this process has too many files open."""
    return isinstance(error, UnreadableError) and is_exhaustion(error)
