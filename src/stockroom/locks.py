"""Locks that no fork leaves locked.

A child inherits every lock as it stood, but not the threads that would release them: a data loader's worker, forked
while another thread of its parent was opening a pack, would wait for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def make_fork_lock() -> AbstractContextManager[bool]:
    """A lock that its holder may take again, free in every forked child.

    A child must be able to do with what it guards as another thread left it.
    """
    lock: Any = threading.RLock()
    _locks.add(lock)
    return lock  # type: ignore[no-any-return]


def _free_inherited() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # what the standard library does with its own


os.register_at_fork(after_in_child=_free_inherited)
