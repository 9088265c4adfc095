"""The packs that this process has open, by number, bounded to stay below the limit on file handles.

Raw uniform packs also share one window over the address space: a batch from many packs is a single numpy gather.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError
from stockroom.locks import make_fork_lock
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.pack.window import Window

_HANDLES_PER_PACK = 3  # mmap keeps a duplicate of each of a pack's files
_ATTEMPTS = 3
_PAUSE_S = 0.005


class OpenPacks:
    """A growing set of open packs. A reference to it keeps all its maps alive."""

    def __init__(self, capacity: int) -> None:
        self.packs: dict[int, Pack] = {}
        self.addresses = np.zeros(max(capacity, 64), np.int64)
        """By pack number: the start of its rows if they can be gathered, -1 if not, 0 if the pack is not open."""
        self._windows: dict[int, Window] = {}

    def add(self, number: int, pack: Pack) -> None:
        """Add an open pack."""
        if number >= len(self.addresses):
            grown = np.zeros(max(number + 1, 2 * len(self.addresses)), np.int64)
            grown[: len(self.addresses)] = self.addresses
            self.addresses = grown
        gatherable = pack.is_raw and not pack.layout.is_ragged and pack.presence is None
        self.packs[number] = pack
        self._windows = {}
        self.addresses[number] = pack.address if gatherable else -1

    def get_address(self, number: int) -> int:
        """Return the start of an open pack's rows if they can be gathered, whether or not all are present; else 0."""
        pack = self.packs[number]
        if not pack.is_raw or pack.layout.is_ragged:
            return 0
        if pack.presence is None:  # a partial pack that has since been filled
            self.addresses[number] = pack.address
        return pack.address

    def gather(self, addresses: NDArray[np.int64], row_nbytes: int) -> NDArray[np.uint8]:
        """Return a copy of the rows at absolute addresses inside these packs' maps, as `(n, row_nbytes)`.

        The addresses must be computed from `self.addresses` and rows known to lie in their packs.
        """
        windows = self._windows  # keep this dict: another thread's `add` starts a new one
        window = windows.get(row_nbytes)
        if window is None:
            window = windows[row_nbytes] = self.open_window(row_nbytes)
        return window.copy_rows(addresses - window.origin)

    def open_window(self, row_nbytes: int) -> Window:
        """Return a window over the raw packs open now; the caller must hold this set while using it."""
        return Window([pack.mapping for pack in list(self.packs.values()) if pack.is_raw], row_nbytes)


class GatherPlan:
    """Rows of one length at known addresses, to be gathered repeatedly; it keeps their packs open."""

    def __init__(self, opened: OpenPacks, addresses: NDArray[np.int64], row_nbytes: int) -> None:
        self._opened = opened
        self._window = opened.open_window(row_nbytes)
        self._offsets = addresses - self._window.origin

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of the rows at `positions`, as `(n, row_nbytes)`.

        Positions are numpy's: negative ones count from the end, and one out of range raises `IndexError`.
        """
        return self._window.copy_rows(self._offsets[positions])


class PackCache:
    """Opens packs by number, and keeps at most as many open as the limit on file handles allows.

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
        self.limit = _choose_limit()
        self._lock = make_fork_lock()
        self._opened = OpenPacks(0)

    @property
    def opened(self) -> OpenPacks:
        """The packs open now; hold it while using addresses from it."""
        return self._opened

    def get(self, number: int) -> Pack:
        """Return pack `number`, open; raises `StalePackError` if the catalog no longer has it."""
        pack = self._opened.packs.get(number)
        return pack if pack is not None else self.open_packs([number]).packs[number]

    def open_packs(self, numbers: list[int]) -> OpenPacks:
        """Return a set in which all of `numbers` (at most `limit`) are open."""
        with self._lock:
            opened = self._opened
            missing = [number for number in numbers if number not in opened.packs]
            if len(opened.packs) + len(missing) > self.limit:
                opened, missing = OpenPacks(len(opened.addresses)), numbers
            for number in missing:
                opened.add(number, self._open_pack(number))
            self._opened = opened
            return opened

    def forget(self) -> None:
        """Release every open pack."""
        with self._lock:
            self._opened = OpenPacks(0)

    def _open_pack(self, number: int) -> Pack:
        digest = self._find_digest(number)
        if digest is None:
            raise StalePackError(number)
        directory = locate_pack(self._directory, digest)
        for attempt in range(_ATTEMPTS):
            try:
                return Pack(directory, digest)
            except CorruptionError:
                self._forget_digest(number)
                if self._find_digest(number) is None:  # it is just being removed from the store
                    raise StalePackError(number) from None
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S)  # a folder that replaces this one may be about to move in
        raise AssertionError("unreachable")


def _choose_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = 4096 if soft == resource.RLIM_INFINITY else soft
    return max(4, min(1024, handles // (4 * _HANDLES_PER_PACK)))
