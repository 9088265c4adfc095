"""The seam for lazy transfer: a `Fetcher` brings absent units of packs to this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest

Wanted: TypeAlias = Sequence[tuple[PackDigest, NDArray[np.int64]]]
"""Units of packs: rows `(n,)` of a raw pack, blocks `(n,)` of an encoded one."""


class Fetcher(Protocol):
    """Fetches units of packs to this machine."""

    @property
    def why(self) -> str:
        """Why units may still be absent after `fetch`, and what to do about it."""

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Make units present, verified and synced, or raise; a bulk fetch yields to the reads of others."""

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Announce that units will be needed soon, and whether more will follow. Returns at once and never fails."""

    def start(self) -> None:
        """Prepare for a coming `fetch`, if that helps. Never fails."""

    def close(self) -> None:
        """Release the resources held for fetching; the next `fetch` reopens them."""


class NoFetcher:
    """Fetches nothing, and says why."""

    def __init__(self, why: str = "no remote is configured to fetch them from") -> None:
        self._why = why

    @property
    def why(self) -> str:
        """The reason given to the constructor."""
        return self._why

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Leave the units absent."""

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Ignore the hint."""

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
