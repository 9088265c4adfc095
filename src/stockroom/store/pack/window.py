"""One view over the whole address space, to copy rows from any number of maps at once.

It only touches addresses that the caller computed from maps. The caller must hold those maps open.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_PAGE_NBYTES: Final = 4096
_LARGE_ROW_NBYTES: Final = 16 << 10
ORIGIN: Final = _PAGE_NBYTES
"""The address where the window starts: nothing is mapped below, and numpy takes address 0 for none."""
_MAX_NBYTES: Final = 1 << 62
_MAX_ROWS: Final = 1 << 56


def copy_rows(offsets: NDArray[np.int64], row_nbytes: int) -> NDArray[np.uint8]:
    """Return a copy of the rows of `row_nbytes` at `offsets` from `ORIGIN`, as `(n, row_nbytes)`."""
    if row_nbytes >= _LARGE_ROW_NBYTES:
        return _copy_large(offsets, row_nbytes)
    return _open_window(row_nbytes)[offsets].view(np.uint8).reshape(len(offsets), row_nbytes)


class _AddressSpace:
    """Memory from `ORIGIN` on as an array of rows, one starting at every byte."""

    def __init__(self, row_nbytes: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (ORIGIN, True),
            "shape": (min(_MAX_ROWS, _MAX_NBYTES // row_nbytes),),
            "strides": (1,),
            "typestr": f"|V{row_nbytes}",
        }


@lru_cache(maxsize=256)
def _open_window(row_nbytes: int) -> NDArray[np.void]:
    return np.asarray(_AddressSpace(row_nbytes))


def _copy_large(offsets: NDArray[np.int64], row_nbytes: int) -> NDArray[np.uint8]:
    """Copy row by row into memory that starts on a page.

    numpy's large allocations start 16 bytes into a page. Packs start on a page too, so every load would seem to
    depend on a recent store (the processor compares the low 12 bits), at half the speed.
    """
    source = _open_window(1).view(np.uint8)
    out = _allocate_on_page(len(offsets) * row_nbytes).reshape(len(offsets), row_nbytes)
    for row, offset in zip(out, offsets.tolist(), strict=True):
        row[:] = source[offset : offset + row_nbytes]
    return out


def _allocate_on_page(nbytes: int) -> NDArray[np.uint8]:
    memory = np.empty(nbytes + _PAGE_NBYTES, np.uint8)
    start = -memory.ctypes.data % _PAGE_NBYTES
    return memory[start : start + nbytes]
