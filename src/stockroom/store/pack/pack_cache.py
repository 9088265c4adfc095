"""The packs that this process has open, by number; `map_budget` limits how many all stores have open together.

A batch from many raw uniform packs is a single numpy gather, by the addresses at which they are mapped.
"""

from __future__ import annotations

import resource
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import ENOMEM
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, LockedError, UnreadableError
from stockroom.fork_locks import make_fork_lock
from stockroom.store.pack.exchange import finish_exchanges
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.manifest import Manifest
from stockroom.store.pack.map_budget import BUDGET, make_room
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.pack.window import ORIGIN, copy_rows

_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.005
_PART_OF_FILES: Final = 8
"""Packs that are read and not mapped may take an eighth of the open files allowed, each one."""


class OpenPacks:
    """A growing set of open packs. A reference to it keeps all its maps, whatever leaves the cache meanwhile."""

    def __init__(self, capacity: int = 64) -> None:
        self.packs: dict[int, Pack] = {}
        self.starts = np.zeros(capacity, np.int64)
        """By pack number: where its rows start in the window if they can be gathered, -1 if not, 0 if not open."""
        self.used = np.zeros(capacity, np.int64)
        """By pack number: when it was last used, by the budget's clock."""

    def add(self, number: int, pack: Pack) -> None:
        """Add an open pack."""
        if number >= len(self.starts):
            capacity = max(number + 1, 2 * len(self.starts))
            self.starts, self.used = _grow(self.starts, capacity), _grow(self.used, capacity)
        self.packs[number] = pack
        self.used[number] = BUDGET.clock
        self.starts[number] = _get_start(pack) if pack.presence is None else -1

    def select_open(self, numbers: list[int]) -> dict[int, Pack]:
        """Return those of the packs that are open."""
        return {number: self.packs[number] for number in numbers if number in self.packs}

    def find_starts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return where the rows of each pack start, `(n,)`; None unless those of all packs can be gathered now."""
        if not len(numbers) or int(numbers.max()) >= len(self.starts):
            return None
        starts: NDArray[np.int64] = self.starts[numbers]
        return starts if int(starts.min()) > 0 else None

    def open_partial(self, number: int) -> int:
        """Return where an open pack's rows start if they can be gathered, present or not; else -1."""
        pack = self.packs[number]
        start = _get_start(pack)
        if pack.presence is None:  # perhaps a partial pack that has since been filled
            self.starts[number] = start
        return start

    def select(self, leaving: NDArray[np.int64]) -> OpenPacks:
        """Return a set without the packs that are `leaving`."""
        kept = OpenPacks(len(self.starts))
        leaving = leaving[leaving < len(self.starts)]
        gone = set(leaving.tolist())
        kept.packs = {number: pack for number, pack in self.packs.items() if number not in gone}
        kept.starts, kept.used = self.starts.copy(), self.used.copy()
        kept.starts[leaving] = 0
        return kept


class GatherPlan:
    """Rows of one length at known places, to be gathered repeatedly until one of their packs leaves the cache."""

    def __init__(self, opened: OpenPacks, numbers: NDArray[np.int64], offsets: NDArray[np.int64], row_nbytes: int):
        self.numbers = numbers
        self.used = BUDGET.clock
        self._offsets = offsets
        self._row_nbytes = row_nbytes
        self._held: list[Pack] | None = [opened.packs[number] for number in numbers.tolist()]

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Return a copy of the rows at `positions`, as `(n, row_nbytes)`; None if the plan has ended.

        Positions are numpy's: negative ones count from the end, and one out of range raises `IndexError`.
        """
        held = self._held  # keeps the maps until this returns, though another thread may end the plan
        if held is None:
            return None
        self.used = BUDGET.clock
        return copy_rows(self._offsets[positions], self._row_nbytes)

    def end(self) -> None:
        """Let go of the packs."""
        self._held = None


class PackCache:
    """Opens packs by number, and keeps those used last open.

    `limit` is the most packs that this cache has open, or can be asked for, at a time.

    Args:
        packs_directory: the folder that holds the packs.
        find_digest: returns the digest of a pack by its number, or None if it is gone.
        forget_digest: makes `find_digest` look a number up again.
    """

    def __init__(
        self,
        packs_directory: Path,
        *,
        find_digest: Callable[[int], PackDigest | None],
        forget_digest: Callable[[int], None],
    ) -> None:
        self._directory = packs_directory
        self._find_digest = find_digest
        self._forget_digest = forget_digest
        self.limit = BUDGET.limit
        self._lock = make_fork_lock()
        self._opened = OpenPacks()
        self._plans: weakref.WeakSet[GatherPlan] = weakref.WeakSet()
        self.is_careful = False
        self._avoided: Mapping[int, UnreadableError] = {}
        BUDGET.add(self)

    @property
    def opened(self) -> OpenPacks:
        """The packs open now; hold it while using places from it."""
        return self._opened

    def get(self, number: int) -> Pack:
        """Return pack `number`, open; raises `StalePackError` if the catalog no longer has it."""
        opened = self._opened
        pack = opened.packs.get(number)
        if pack is None:
            del opened  # so that packs can make room
            return self.open_packs([number]).packs[number]
        opened.used[number] = BUDGET.clock
        return pack

    def get_manifest(self, number: int) -> Manifest:
        """Return the manifest of pack `number`; raises as `get` does."""
        try:
            return self.get(number).manifest
        except StalePackError:  # its folder has moved, unless the catalog no longer has it
            with self._lock:
                pack = self._open_pack(number)
                with BUDGET.lock:
                    self.evict(np.array([number]))
                    self._keep({number: pack})
                return pack.manifest

    def open_packs(self, numbers: list[int]) -> OpenPacks:
        """Return a set in which all of `numbers` (at most `limit`) are open."""
        with self._lock:
            held = self._opened.select_open(numbers)
            try:
                for number in numbers:
                    if number not in held:
                        held[number] = self._open_pack(number)
            finally:  # what is open already need not be opened again when the caller tries again
                opened = self._keep(held)
            return opened

    def plan_gather(self, numbers: NDArray[np.int64], rows: NDArray[np.int64], row_nbytes: int) -> GatherPlan | None:
        """Return a plan to gather `rows` of packs; None unless all these packs are open, raw, uniform and whole."""
        with BUDGET.lock:
            starts = self._opened.find_starts(numbers)
            if starts is None:
                return None
            packs = np.flatnonzero(np.bincount(numbers))
            plan = GatherPlan(self._opened, packs, starts + rows * row_nbytes, row_nbytes)
            self._plans.add(plan)
        return plan

    def count_open(self) -> int:
        """Return how many packs are open."""
        return len(self._opened.packs)

    def rank_packs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of the open packs, and when each was last used, by the budget's clock."""
        opened = self._opened
        for plan in self._plans:
            opened.used[plan.numbers] = np.maximum(opened.used[plan.numbers], plan.used)
        numbers = np.fromiter(opened.packs, np.int64, len(opened.packs))
        return numbers, opened.used[numbers]

    def evict(self, numbers: NDArray[np.int64]) -> None:
        """Let go of these packs, and end the plans that need one. The caller holds the budget's lock."""
        self._opened = opened = self._opened.select(numbers)
        for plan in list(self._plans):
            if opened.find_starts(plan.numbers) is None:
                self._end_plan(plan)

    def forget(self) -> None:
        """Release every open pack."""
        with self._lock, BUDGET.lock:
            self._opened = OpenPacks()
            for plan in list(self._plans):
                self._end_plan(plan)

    @contextmanager
    def read_carefully(self) -> Iterator[None]:
        """During the block, open packs `careful`: slower, and a part that cannot be read is an error, not a signal."""
        with self._lock:
            before = self.is_careful, self.limit
            self.is_careful, self.limit = True, min(self.limit, _choose_careful_limit())
            self.forget()
        try:
            yield
        finally:
            with self._lock:
                self.is_careful, self.limit = before
                self.forget()

    @contextmanager
    def avoid(self, packs: Mapping[int, UnreadableError]) -> Iterator[None]:
        """During the block, raise for these packs, by number, why they cannot be read: a map could end the process."""
        with self._lock:
            before, self._avoided = self._avoided, packs
            self.forget()
        try:
            yield
        finally:
            self._avoided = before

    def _keep(self, held: Mapping[int, Pack]) -> OpenPacks:
        """Make room, and return a set that has all these packs."""
        with BUDGET.lock:
            BUDGET.clock += 1
            opened = self._opened
            opened.used[[number for number in held if number in opened.packs]] = BUDGET.clock
            missing = len(held) - sum(number in opened.packs for number in held)
            make_room([self], missing, self.limit)
            BUDGET.make_room(missing)
            opened = self._opened
            for number, pack in held.items():
                if number not in opened.packs:
                    opened.add(number, pack)
            return opened

    def _end_plan(self, plan: GatherPlan) -> None:
        self._plans.discard(plan)
        plan.end()

    def _open_pack(self, number: int) -> Pack:
        digest = self._find_digest(number)
        if digest is None:
            raise StalePackError(number)
        if number in self._avoided:
            raise self._avoided[number].with_traceback(None)
        directory = locate_pack(self._directory, digest)
        for attempt in range(_ATTEMPTS):
            try:
                return self._map_pack(directory, digest)
            except CorruptionError:
                self._forget_digest(number)
                if self._find_digest(number) is None:  # it is just being removed from the store
                    raise StalePackError(number) from None
                if attempt + 1 == _ATTEMPTS:
                    raise
                with suppress(LockedError, OSError):  # this process may be one that only reads
                    finish_exchanges(self._directory)
                time.sleep(_PAUSE_S)  # a folder that replaces this one may be about to move in
        raise AssertionError("unreachable")

    def _map_pack(self, directory: Path, digest: PackDigest) -> Pack:
        """Open a pack; while the system refuses more maps, give up half of those there are."""
        while True:
            try:
                return Pack(directory, digest, careful=self.is_careful, lean=True)
            except UnreadableError as error:
                if error.errno != ENOMEM or not BUDGET.evict_half():
                    raise


def _get_start(pack: Pack) -> int:
    """Return where the rows of a pack start in the window, or -1 if they cannot be gathered."""
    return pack.address - ORIGIN if pack.is_mapped and pack.is_raw and not pack.layout.is_ragged else -1


def _grow(numbers: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    grown = np.zeros(capacity, np.int64)
    grown[: len(numbers)] = numbers
    return grown


def _choose_careful_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = 4096 if soft == resource.RLIM_INFINITY else soft
    return max(1, min(1024, handles // _PART_OF_FILES))
