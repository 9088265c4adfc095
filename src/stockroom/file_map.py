"""Maps files into memory without keeping them open.

`mmap.mmap` keeps a file descriptor for every map (until Python 3.13 made that optional), and a process needs more maps,
of packs, tensors and metadata, than it may have open files. So this calls the system's `mmap` directly.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FAILED: Final = ctypes.c_void_p(-1).value
_MAP_COUNT: Final = Path("/proc/sys/vm/max_map_count")
_USUAL_MAP_COUNT: Final = 65_530


def map_shared(fd: int, nbytes: int, *, writable: bool = False) -> NDArray[np.uint8]:
    """Map the first `nbytes` of an open file, at least one, as `(nbytes,)`; the caller may close the file.

    The map ends with the last array on it. Raises `OSError`: `ENOMEM` if the process has no room or no maps left.
    """
    protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    address = _load_library().mmap(None, nbytes, protection, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return np.asarray(_Region(address, nbytes, writable=writable))


def map_private(fd: int, offset: int, nbytes: int) -> NDArray[np.uint8] | None:
    """Map `nbytes` of a file from `offset` on, privately and writable; None if the system has no more maps.

    The map ends with the last array on it. It must lie within the file.
    """
    page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = offset + nbytes - page
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _load_library().mmap(None, length, protection, mmap.MAP_PRIVATE, fd, page)
    if address == _FAILED:  # the limit on maps is reached: the caller copies instead
        return None
    return np.asarray(_Region(address, length, writable=True))[offset - page :]


def count_maps_allowed() -> int:
    """Return how many maps the system allows this process."""
    try:
        return int(_MAP_COUNT.read_text())
    except (OSError, ValueError):  # not Linux, or no /proc
        return _USUAL_MAP_COUNT


class _Region:
    """Mapped memory, as numpy's array interface describes it. It is unmapped with the last array on it."""

    __slots__ = ("__array_interface__", "_address", "_nbytes", "_unmap")

    def __init__(self, address: int, nbytes: int, *, writable: bool) -> None:
        self._unmap = _load_library().munmap
        self._address = address
        self._nbytes = nbytes
        self.__array_interface__ = {
            "version": 3,
            "data": (address, not writable),
            "shape": (nbytes,),
            "typestr": "|u1",
        }

    def __del__(self) -> None:
        self._unmap(self._address, self._nbytes)


@cache
def _load_library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library
