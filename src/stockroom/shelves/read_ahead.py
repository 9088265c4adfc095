"""Read-ahead on a partial clone: while samples are read in order, the next ones are requested early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW_NBYTES: Final = 64 << 20
"""How far ahead of the reader to request. A new request is sent when half of it is used up."""


class ReadAhead:
    """Watches the positions that are read, and hints at the next ones once they come in order.

    Args:
        count: number of samples in order.
        sample_nbytes: approximate bytes of one sample.
        hint: called with the indices, in that order, of the next samples, and whether more follow them.
    """

    def __init__(self, count: int, sample_nbytes: int, hint: Callable[[NDArray[np.int64], bool], None]) -> None:
        self._count = count
        self._window = max(WINDOW_NBYTES // max(sample_nbytes, 1), 1)
        self._hint = hint
        self._hinted = 0
        self._last = -1

    def see(self, positions: NDArray[np.int64]) -> None:
        """Record that `positions` are being read.

        Several workers may share one order, each reading every nth batch. So positions must be consecutive within a
        call, but need only increase from call to call.
        """
        if not len(positions):
            return
        first, last = int(positions[0]), int(positions[-1])
        in_order = last - first == len(positions) - 1 and (len(positions) > 1 or first == self._last + 1)
        is_next = in_order and (first > self._last or first == 0)
        if first <= self._last:  # a new pass, or a jump back
            self._hinted = 0
        self._last = last
        if is_next and self._hinted < min(last + 1 + self._window // 2, self._count):
            self._hinted = min(last + 1 + self._window, self._count)
            if last + 1 < self._hinted:
                self._hint(np.arange(last + 1, self._hinted), self._hinted < self._count)
