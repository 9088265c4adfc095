"""The one seam for lazy transfer: what is asked for units of packs that are not on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest

Wanted: TypeAlias = Sequence[tuple[PackDigest, NDArray[np.int64]]]
"""Units of packs: rows `(n,)` of a raw pack, blocks `(n,)` of a compressed one."""


class Fetcher(Protocol):
    """Brings units of packs to this machine."""

    @property
    def why(self) -> str:
        """Why units may still be absent after `fetch`, and what to do about it."""

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Make units present, verified and on disk, or raise; in bulk, others' reads go first."""

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Say that units will be wanted soon, and whether those after them will. Returns at once and never fails."""

    def start(self) -> None:
        """Make ready for a `fetch` to come, if that helps. Never fails."""

    def close(self) -> None:
        """Let go of what fetching holds open; the next `fetch` opens it again."""


class NoFetcher:
    """Brings nothing, and says why."""

    def __init__(self, why: str = "no remote is configured that could give them") -> None:
        self._why = why

    @property
    def why(self) -> str:
        """As given."""
        return self._why

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Leave them absent."""

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Ignore it."""

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
