"""Private maps of files: memory of the caller's own, copied page by page only where it is written to.

`mmap.mmap` keeps a file descriptor open for every map (until Python 3.13 may be told not to), and a model of 10,000
tensors needs more maps than a process may have files open: so the system's own `mmap` is called, and the descriptor
can be closed at once.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FAILED: Final = ctypes.c_void_p(-1).value


def map_private(fd: int, offset: int, nbytes: int) -> NDArray[np.uint8] | None:
    """`nbytes` of a file from `offset` on, writable, what is written never reaching the file; None if it cannot be.

    The map ends with the last array on it. It must lie within the file.
    """
    page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = offset + nbytes - page
    library = _load_library()
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = library.mmap(None, length, protection, mmap.MAP_PRIVATE, fd, page)
    if address == _FAILED:  # as many maps as the system allows: the caller copies instead
        return None
    memory = (ctypes.c_uint8 * length).from_address(address)
    weakref.finalize(memory, library.munmap, address, length).atexit = False
    mapped: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)  # type: ignore[call-overload]  # numpy's stubs: no buffer
    return mapped[offset - page :]


@cache
def _load_library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library
