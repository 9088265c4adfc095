"""A gate that many threads pass at once, or that one shuts to be alone.

Transactions pass it; whatever must see no transaction of this process (growing the map, closing, forking)
shuts it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts the threads inside; whoever shuts it waits until none is."""

    __slots__ = ("_changed", "_inside", "_mutex", "_shut")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._inside = 0
        self._shut = False

    def enter(self) -> None:
        """Pass, waiting while the gate is shut. A thread that is inside must not enter again."""
        with self._mutex:
            while self._shut:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        """Leave, and wake whoever waits to be alone."""
        with self._mutex:
            self._inside -= 1
            if self._shut and not self._inside:
                self._changed.notify_all()

    def shut(self, timeout_s: float | None = None) -> bool:
        """True once nobody is inside and nobody else can enter; False, and open, after `timeout_s`."""
        with self._mutex:
            if not self._changed.wait_for(lambda: not self._shut, timeout_s):
                return False
            self._shut = True
            if self._changed.wait_for(lambda: not self._inside, timeout_s):
                return True
            self._reopen()
            return False

    def open(self) -> None:
        """Let everyone pass again."""
        with self._mutex:
            self._reopen()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only thread past the gate."""
        self.shut()
        try:
            yield
        finally:
            self.open()

    def _reopen(self) -> None:
        self._shut = False
        self._changed.notify_all()
