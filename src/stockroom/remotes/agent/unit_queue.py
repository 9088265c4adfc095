"""The queue of requests to remotes: first those that a reader waits for, then hints, then bulk transfers."""

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
from stockroom.errors import AuthenticationError
from stockroom.remotes.format.paths import pack_prefix
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.store.pack.pack_filler import ByteRange, PackFiller

_MAX_SOON_NBYTES: Final = 512 << 20


class Priority(IntEnum):
    """The urgency of a request: a reader waits for it, a reader will want it soon, or it is a bulk transfer."""

    NOW = 0
    SOON = 1
    BULK = 2


@dataclass(slots=True, eq=False)
class Job:
    """One request to a remote, from planning to completion."""

    pack: OpenPack
    span: ByteRange
    priority: Priority
    done: threading.Event = field(default_factory=threading.Event)
    callers: list[RemoteEnvironment] = field(default_factory=list)
    """The environments of those who want it, the first first."""
    refused: dict[RemoteEnvironment, AuthenticationError] = field(default_factory=dict)
    """Those whose credentials a remote refused."""
    is_started: bool = False
    error: Exception | None = None

    def add_caller(self, environment: RemoteEnvironment) -> None:
        """Let the job use the credentials of one more caller."""
        if environment not in self.callers:
            self.callers.append(environment)

    def find_caller(self) -> RemoteEnvironment | None:
        """Return an environment that has not been refused, or None."""
        return next((caller for caller in list(self.callers) if caller not in self.refused), None)

    def finish(self) -> None:
        """Mark the job done. Its units are synced and marked with the pack's other jobs, or by a waiting caller."""
        self.done.set()
        with self.pack.lock:
            is_last = all(other.done.is_set() for other in self.pack.jobs)
        if is_last or self.error is not None or self.priority is Priority.SOON:
            try:
                self.pack.record_present()
            except OSError as error:  # a full disk: nothing is marked; a waiting caller asks again
                self.error = error


@dataclass(slots=True, eq=False)
class OpenPack:
    """A pack being filled, and the jobs that bring its units."""

    digest: PackDigest
    filler: PackFiller
    lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: set[Job] = field(default_factory=set)
    requests: int = 0
    requested: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def path(self) -> str:
        """The path of its shard on a remote."""
        return f"{pack_prefix(self.digest)}{self.filler.shard_name}"

    def record_present(self) -> None:
        """Sync and mark the downloaded units, and forget the jobs that brought them."""
        with self.lock:
            ended = [job for job in self.jobs if job.done.is_set()]
        try:
            self.filler.record_present()
        finally:
            with self.lock:
                for job in ended:
                    self.requested[job.span.units] = False
                    self.jobs.discard(job)


class UnitQueue:
    """A queue of jobs for worker threads. If too many hints are waiting, the newest are dropped."""

    def __init__(self) -> None:
        self._queues: dict[Priority, deque[Job]] = {priority: deque() for priority in Priority}
        self._soon_nbytes = 0
        self._ready = threading.Condition()
        self._is_closed = False

    def put(self, jobs: Iterable[Job], priority: Priority) -> None:
        """Queue jobs. A job that waits in another queue stays there too, and is skipped when its turn comes."""
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
        """Return the next job, waiting for one; None once the queue is closed and empty."""
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
        """Drop hinted jobs that have not started."""
        while self._queues[Priority.SOON]:
            self._drop_newest_hint()

    def close(self) -> None:
        """Let `take` return None once no job is left."""
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
