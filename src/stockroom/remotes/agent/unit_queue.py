"""The requests that are to be made of remotes, in the order in which they are made.

What is waited for comes before what is only expected to be wanted soon, and that before what is brought in bulk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.remotes.format.paths import pack_prefix
from stockroom.store.pack.pack_filler import ByteRange, PackFiller

_MAX_SOON_NBYTES: Final = 512 << 20


class Priority(IntEnum):
    """What comes first: what a reader waits for, what it will want soon, what is brought in bulk."""

    NOW = 0
    SOON = 1
    BULK = 2


@dataclass(slots=True, eq=False)
class Job:
    """One request to a remote, from its planning to its end."""

    pack: OpenPack
    span: ByteRange
    priority: Priority
    done: threading.Event = field(default_factory=threading.Event)
    is_started: bool = False
    error: Exception | None = None

    def finish(self) -> None:
        """End it. What came is synced and marked with all that is under way for its pack, or by who waits for it."""
        self.done.set()
        with self.pack.lock:
            is_last = all(other.done.is_set() for other in self.pack.jobs)
        if is_last or self.error is not None or self.priority is Priority.SOON:
            try:
                self.pack.settle()
            except OSError as error:  # a full disk: nothing is marked, and whoever waits finds it absent and asks again
                self.error = error


@dataclass(slots=True, eq=False)
class OpenPack:
    """A pack being filled, and which job brings which of its units."""

    digest: PackDigest
    filler: PackFiller
    lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: set[Job] = field(default_factory=set)
    requests: int = 0
    claimed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def path(self) -> str:
        """Where its shard lies on a remote."""
        return f"{pack_prefix(self.digest)}{self.filler.shard_name}"

    def settle(self) -> None:
        """Sync and mark what has come, and forget the jobs that brought it."""
        with self.lock:
            ended = [job for job in self.jobs if job.done.is_set()]
        try:
            self.filler.settle()
        finally:
            with self.lock:
                for job in ended:
                    self.claimed[job.span.units] = False
                    self.jobs.discard(job)


class UnitQueue:
    """The jobs to be done, for threads that do them. The newest hints are dropped where there are too many."""

    def __init__(self) -> None:
        self._queues: dict[Priority, deque[Job]] = {priority: deque() for priority in Priority}
        self._soon_nbytes = 0
        self._ready = threading.Condition()
        self._is_closed = False

    def put(self, jobs: Iterable[Job], priority: Priority) -> None:
        """Queue jobs; one that waits in another queue stays there too, and is passed over when its turn comes."""
        with self._ready:
            for job in jobs:
                job.priority = priority
                self._queues[priority].append(job)
                if priority is Priority.SOON:
                    self._soon_nbytes += job.span.nbytes
            self._ready.notify_all()
        while self._soon_nbytes > _MAX_SOON_NBYTES:
            self._drop_newest_hint()

    def take(self) -> Job | None:
        """The next job, waited for; None when all is over."""
        with self._ready:
            while True:
                for priority, queue in self._queues.items():
                    while queue:
                        job = queue.popleft()
                        if priority is Priority.SOON:
                            self._soon_nbytes -= job.span.nbytes
                        if not job.is_started:
                            job.is_started = True
                            return job
                if self._is_closed:
                    return None
                self._ready.wait()

    def drop_hints(self) -> None:
        """Forget what is expected but not begun."""
        while self._queues[Priority.SOON]:
            self._drop_newest_hint()

    def close(self) -> None:
        """Let `take` return None once there is no job left."""
        with self._ready:
            self._is_closed = True
            self._ready.notify_all()

    def _drop_newest_hint(self) -> None:
        with self._ready:
            if not self._queues[Priority.SOON]:
                return
            job = self._queues[Priority.SOON].pop()
            self._soon_nbytes -= job.span.nbytes
            if job.priority is not Priority.SOON or job.is_started:
                return
            job.is_started = True
        job.finish()
