"""A gate that many threads pass at once, or that one thread shuts to be alone.

Transactions pass it. Growing the map, closing and forking, which exclude all transactions of this process, shut it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from stockroom.errors import LockedError

PATIENCE_S: Final = 600.0
"""How long a thread waits for the transactions of others: a long one walks a whole history."""


class Gate:
    """Tracks the threads inside; a thread that shuts the gate waits until no other is inside.

    An interrupt may keep a thread from leaving, or from reopening the gate. No other thread waits for that forever: the
    thread's own next call repairs the gate.
    """

    __slots__ = ("_changed", "_inside", "_mutex", "_shut_by")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._inside: set[int] = set()
        self._shut_by: int | None = None

    def enter(self) -> None:
        """Pass, waiting while another thread keeps the gate shut. A thread that is inside must not enter again.

        Raises `LockedError` if that takes too long.
        """
        me = threading.get_ident()
        with self._mutex:
            if self._shut_by is not None and not self._changed.wait_for(lambda: self._is_open_to(me), PATIENCE_S):
                raise _make_error(f"thread {self._shut_by} of this process waits to grow or close the file")
            self._inside.add(me)

    def leave(self) -> None:
        """Leave, and wake a thread that waits to be alone; harmless when repeated."""
        with self._mutex:
            self._inside.discard(threading.get_ident())
            if self._shut_by is not None and not self._inside:
                self._changed.notify_all()

    def shut(self, timeout_s: float) -> bool:
        """Shut the gate, and return True when no thread is inside; return False, leaving it open, after `timeout_s`.

        The calling thread must not be inside.
        """
        me = threading.get_ident()
        with self._mutex:
            self._inside.discard(me)
            if not self._changed.wait_for(lambda: self._is_open_to(me), timeout_s):
                return False
            self._shut_by = me
            is_alone = False
            try:
                is_alone = self._changed.wait_for(lambda: not self._inside, timeout_s)
            finally:
                if not is_alone:
                    self._reopen()
            return is_alone

    def open(self) -> None:
        """Let every thread pass again, if this thread shut the gate."""
        with self._mutex:
            if self._shut_by == threading.get_ident():
                self._reopen()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only thread past the gate; raise `LockedError` if another one stays inside too long."""
        try:
            if not self.shut(PATIENCE_S):
                inside = ", ".join(map(str, sorted(self._inside)))
                raise _make_error(f"thread {inside} of this process is in a transaction that does not end")
            yield
        finally:
            self.open()

    def _is_open_to(self, thread: int) -> bool:
        return self._shut_by is None or self._shut_by == thread

    def _reopen(self) -> None:
        self._shut_by = None
        self._changed.notify_all()


def _make_error(reason: str) -> LockedError:
    return LockedError(f"{reason} (waited {PATIENCE_S:g} s); end them, or start the program again")
