"""Threads for what is done beside the caller, who does it himself once the program is ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class SideThreads(ThreadPoolExecutor):
    """A pool that also takes work when no thread can be started any more: in what a program runs as it ends."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """What becomes of `fn(...)`, which has been called already if the program is ending."""
        if threading.main_thread().is_alive():
            return super().submit(fn, *args, **kwargs)
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done
