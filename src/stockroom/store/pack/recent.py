"""Keeps the values used last, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from stockroom.fork_locks import make_plain_fork_lock

T = TypeVar("T")
_MAX_PART = 4


class RecentValues(Generic[T]):
    """Values by key, of at most `max_nbytes` together; the one used longest ago leaves first. Threads may share it.

    A forked child has its own, with what its parent had. A value over a quarter of `max_nbytes` is not kept.
    """

    def __init__(self, max_nbytes: int) -> None:
        self.max_nbytes = max_nbytes
        self.nbytes = 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = make_plain_fork_lock()

    def find(self, key: Hashable) -> T | None:
        """Return the value of `key`, or None if it is not kept."""
        with self._lock:
            kept = self._values.get(key)
            if kept is None:
                return None
            self._values.move_to_end(key)
            return kept[0]

    def keep(self, key: Hashable, value: T, nbytes: int) -> None:
        """Keep a value of `nbytes`, which nothing may change from now on."""
        kept = self._values.get(key)
        if nbytes * _MAX_PART > self.max_nbytes or (kept is not None and kept[0] is value):
            return
        with self._lock:
            replaced = self._values.pop(key, None)
            self._values[key] = value, nbytes
            self.nbytes += nbytes - (0 if replaced is None else replaced[1])
            while self.nbytes > self.max_nbytes and self._values:
                self.nbytes -= self._values.popitem(last=False)[1][1]
