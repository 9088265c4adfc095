"""The handles open for writing: what they staged is made durable when the program ends without closing them."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - cannot be loaded once the program is ending, when some still write
import weakref
from contextlib import ExitStack
from typing import Final, Protocol


class _Closable(Protocol):
    def close(self) -> None: ...


_handles: Final[weakref.WeakSet[_Closable]] = weakref.WeakSet()


def close_at_exit(handle: _Closable) -> None:
    """Have a handle closed when the program ends, if it is still there then."""
    _handles.add(handle)


def _close_all() -> None:
    with ExitStack() as stack:  # each is closed, whatever becomes of the others
        for handle in list(_handles):
            stack.callback(handle.close)


atexit.register(_close_all)
