"""One view over the address space that several maps span, to copy rows from all of them at once.

It only touches addresses that the caller computed from the maps. The maps must be held open.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PAGE_NBYTES = 4096
_LARGE_ROW_NBYTES = 16 << 10


class Window:
    """Rows of `row_nbytes` bytes, starting at every byte from the start of the lowest map to the end of the highest."""

    def __init__(self, maps: list[NDArray[np.uint8]], row_nbytes: int) -> None:
        spans = [(int(mapped.ctypes.data), mapped) for mapped in maps if mapped.nbytes >= row_nbytes]
        self.origin, lowest = min(spans, key=lambda span: span[0])
        nbytes = max(address + mapped.nbytes for address, mapped in spans) - self.origin
        self._row_nbytes = row_nbytes
        self._bytes = np.lib.stride_tricks.as_strided(lowest[:1], (nbytes,), (1,), writeable=False)
        first = lowest[:row_nbytes].view(f"V{row_nbytes}")
        self._rows = np.lib.stride_tricks.as_strided(first, (nbytes - row_nbytes + 1,), (1,), writeable=False)

    def copy_rows(self, offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of the rows at `offsets` from `origin`, as `(n, row_nbytes)`."""
        if self._row_nbytes >= _LARGE_ROW_NBYTES:
            return self._copy_large(offsets)
        return self._rows[offsets].view(np.uint8).reshape(len(offsets), self._row_nbytes)

    def _copy_large(self, offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy row by row into memory that starts on a page.

        numpy's large allocations start 16 bytes into a page. Packs start on a page too, so every load would seem to
        depend on a recent store (the processor compares the low 12 bits), at half the speed.
        """
        row_nbytes, source = self._row_nbytes, self._bytes
        out = _allocate_on_page(len(offsets) * row_nbytes).reshape(len(offsets), row_nbytes)
        for row, offset in zip(out, offsets.tolist(), strict=True):
            row[:] = source[offset : offset + row_nbytes]
        return out


def _allocate_on_page(nbytes: int) -> NDArray[np.uint8]:
    memory = np.empty(nbytes + _PAGE_NBYTES, np.uint8)
    start = -memory.ctypes.data % _PAGE_NBYTES
    return memory[start : start + nbytes]
