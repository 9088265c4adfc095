"""Locks between the threads of one process, and files of locks, that no fork leaves locked.

A child inherits every lock as it was, but not the threads that would release it. A data loader's worker, forked while
another thread of its parent was opening a pack, would wait forever.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

opening: Any = threading.RLock()
"""Held while a lock file is opened or closed, and by every fork: a child knows all that it has open."""

_FORK_PATIENCE_S: Final = 5.0
_thread_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_open_files: weakref.WeakSet[OpenFile] = weakref.WeakSet()
_forking = threading.local()


class OpenFile(Protocol):
    """An object that has a lock file open."""

    def leave(self) -> None:
        """Close the file without unlocking it."""
        ...


def close_in_child(file: OpenFile) -> None:
    """Close a file in every child that is forked from now on; the caller holds `opening`."""
    _open_files.add(file)


def make_fork_lock() -> AbstractContextManager[bool]:
    """Return a reentrant lock between threads, which is free in every forked child.

    The child must cope with whatever state another thread left the guarded data in.
    """
    lock: AbstractContextManager[bool] = threading.RLock()
    _thread_locks.add(lock)
    return lock


def make_plain_fork_lock() -> threading.Lock:
    """Return a lock as `make_fork_lock` does, but one that a thread cannot take twice."""
    lock = threading.Lock()
    _thread_locks.add(lock)
    return lock


def _wait_for_openings() -> None:
    _forking.waited = opening.acquire(timeout=_FORK_PATIENCE_S)


def _allow_openings() -> None:
    if _forking.waited:
        opening.release()


def _free_inherited() -> None:
    opening._at_fork_reinit()
    for lock in list(_thread_locks):
        lock._at_fork_reinit()  # as the standard library does with its own
    for file in list(_open_files):
        file.leave()


os.register_at_fork(before=_wait_for_openings, after_in_parent=_allow_openings, after_in_child=_free_inherited)
