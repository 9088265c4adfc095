"""Downloads units of partial packs: merges requests, downloads in parallel, verifies and marks.

Each unit is requested once, however many readers wait for it. Units that lie close together share a request.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom import errors
from stockroom.digest import PackDigest
from stockroom.errors import AbsentDataError, AuthenticationError, CorruptionError, RemoteError, StockroomError
from stockroom.remotes.agent.open_remotes import OpenRemote
from stockroom.remotes.agent.protocol import OnWorking
from stockroom.remotes.agent.unit_queue import Job, OpenPack, Priority, UnitQueue
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.remotes.transport.protocol import MissingFileError
from stockroom.store.fetcher import Wanted
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack_filler import ByteRange, PackFiller

PIECE_NBYTES: Final = 8 << 20
"""The largest request: small enough for parallel requests to fill the line, large enough to cost little per byte."""
GAP_NBYTES: Final = 32 << 10
"""A gap up to this size is read through: a separate request costs about as much as this many bytes."""
_REQUESTS_A_WIDENING: Final = 32
_MAX_GAP_NBYTES: Final = 4 << 20
_TRIES: Final = 3
_ROUNDS: Final = 4
_BEAT_S: Final = 0.5
_MAX_OPEN_PACKS: Final = 256


@dataclass(slots=True)
class Figures:
    """Counts of the requests to remotes since the start."""

    requests: int = 0
    nbytes: int = 0
    bad_units: int = 0


class Downloads:
    """Fills the packs under one folder. Only one process at a time may have one for a folder; its threads share it.

    `list_remotes`, called for each of the requests that `threads` run at once, returns the remotes to ask for a pack,
    the most likely first, opened with the credentials of an environment.
    """

    def __init__(
        self,
        packs_directory: Path,
        list_remotes: Callable[[PackDigest, RemoteEnvironment], Sequence[OpenRemote]],
        *,
        threads: int = 16,
    ) -> None:
        self._packs_directory = packs_directory
        self._list_remotes = list_remotes
        self._packs: dict[PackDigest, OpenPack] = {}
        self._opening = threading.RLock()
        self._queue = UnitQueue()
        self._moved_s = time.monotonic()
        self.figures = Figures()
        self._threads = [threading.Thread(target=self._work, name=f"download-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        self._queue.close()

    def fetch(
        self,
        wanted: Wanted,
        environment: RemoteEnvironment,
        *,
        stall_s: float,
        is_bulk: bool = False,
        on_working: OnWorking | None = None,
    ) -> None:
        """Return once all of `wanted` is present. With `is_bulk`, readers go first.

        Raises:
            TimeoutError: for `stall_s`, nothing at all has arrived for any caller.
            AbsentDataError: no remote has a pack.
            AuthenticationError: a remote refused the credentials of `environment`, and of others who want the same.
            CorruptionError: a remote keeps sending damaged bytes.
            RemoteError: a remote does not answer, or refuses.
        """
        priority = Priority.BULK if is_bulk else Priority.NOW
        for _ in range(_ROUNDS):
            jobs = [job for digest, units in wanted for job in self._request(digest, units, priority, environment)]
            if not jobs:
                return
            try:
                self._wait(jobs, stall_s=stall_s, on_working=on_working)
            except AuthenticationError:
                refusal = _find_refusal(jobs, environment)
                if refusal is not None:
                    raise refusal from None
                # a job of others ended just before this environment was added to it
            finally:
                for pack in {job.pack.digest: job.pack for job in jobs}.values():
                    pack.record_present()
        raise CorruptionError(
            "fetched rows disappear again and again: the remote gives other bytes each time, or another program "
            "removes them here"
        )

    def hint(self, wanted: Wanted, environment: RemoteEnvironment, *, goes_on: bool = False) -> None:
        """Download `wanted` while nothing more urgent is queued.

        If it `goes_on`, more hints of the same kind follow, and the last piece waits until it is whole.
        """
        for digest, units in wanted:
            chosen = self._open(digest).filler.trim(units, PIECE_NBYTES) if goes_on else units
            if len(chosen):
                self._request(digest, chosen, Priority.SOON, environment)

    def replace(self, digest: PackDigest, change: Callable[[], None]) -> None:
        """Run `change`, which replaces a pack's folder, while no job writes to the pack."""
        while True:
            pack = self._packs.get(digest)
            if pack is not None:
                for job in list(pack.jobs):
                    job.done.wait()
                pack.record_present()
            with self._opening:
                if pack is None or not pack.jobs:
                    change()
                    if self._packs.pop(digest, None) is not None and pack is not None:
                        pack.filler.close()  # open files would keep the disk space from being freed
                    return

    def drop_hints(self) -> None:
        """Drop hinted units whose download has not begun."""
        self._queue.drop_hints()

    def _open(self, digest: PackDigest) -> OpenPack:
        with self._opening:
            pack = self._packs.get(digest)
            if pack is not None and not pack.filler.is_in_place():  # jobs that still fill it do no harm
                del self._packs[digest]
                if not pack.jobs:
                    pack.filler.close()
                pack = None
            if pack is None:
                self._close_idle()
                filler = PackFiller(locate_pack(self._packs_directory, digest), digest)
                pack = self._packs[digest] = OpenPack(digest, filler, requested=np.zeros(filler.units, bool))
            return pack

    def _close_idle(self) -> None:
        """Close idle packs beyond the limit on open packs."""
        idle = [digest for digest, pack in self._packs.items() if not pack.jobs]
        for digest in idle[: max(0, len(self._packs) + 1 - _MAX_OPEN_PACKS)]:
            self._packs.pop(digest).filler.close()

    def _request(
        self, digest: PackDigest, units: NDArray[np.int64], priority: Priority, environment: RemoteEnvironment
    ) -> list[Job]:
        """Queue jobs that bring the absent `units`. Return them, running ones included; return none for hints."""
        with self._opening:  # so that no thread closes or replaces the pack before its jobs are visible
            going, new = self._plan_jobs(self._open(digest), units, priority)
            for job in going + new:
                job.add_caller(environment)
        self._queue.put([*(job for job in going if job.priority > priority), *new], priority)
        return [] if priority is Priority.SOON else going + new

    def _plan_jobs(self, pack: OpenPack, units: NDArray[np.int64], priority: Priority) -> tuple[list[Job], list[Job]]:
        with pack.lock:
            absent = pack.filler.list_absent(units if len(units) else np.arange(pack.filler.units))
            if not len(absent):
                return [], []
            waits = priority is not Priority.SOON
            going = [job for job in pack.jobs if np.isin(job.span.units, absent).any()] if waits else []
            free = absent[~pack.requested[absent]]
            new = [Job(pack, span, priority) for span in self._plan(pack, free)]
            for job in new:
                pack.requested[job.span.units] = True
            pack.jobs.update(new)
            pack.requests += len(new)
        return going, new

    def _plan(self, pack: OpenPack, free: NDArray[np.int64]) -> list[ByteRange]:
        """Plan requests for `free`. The more requests a pack has had, the wider the gaps that are read through."""
        if not len(free):
            return []
        gap_nbytes = min(GAP_NBYTES * (1 + pack.requests // _REQUESTS_A_WIDENING), _MAX_GAP_NBYTES)
        return pack.filler.plan_ranges(free, gap_nbytes=gap_nbytes, max_nbytes=PIECE_NBYTES, taken=pack.requested)

    def _work(self) -> None:
        while (job := self._queue.take()) is not None:
            try:
                self._download(job)
                self._moved_s = time.monotonic()
            except Exception as error:
                job.error = error
            job.finish()
            del job  # a thread that waits for its next job must not keep a pack's files open

    def _download(self, job: Job) -> None:
        """Download the units of a job with the credentials of the first of its callers that no remote refuses."""
        while (caller := job.find_caller()) is not None:
            try:
                return self._download_for(caller, job)
            except AuthenticationError as error:
                job.refused[caller] = error
        raise next(iter(job.refused.values()))

    def _download_for(self, caller: RemoteEnvironment, job: Job) -> None:
        pack, failures = job.pack, list[StockroomError]()
        for remote in self._list_remotes(pack.digest, caller):
            try:
                return self._download_from(remote, job)
            except StockroomError as error:
                failures.append(error)
        if failures:
            raise next((error for error in failures if not isinstance(error, AbsentDataError)), failures[0])
        raise AbsentDataError(
            f"pack {pack.digest.hex()[:12]}: absent, and no remote is configured to fetch it from",
            pack=pack.digest.hex(),
        )

    def _download_from(self, remote: OpenRemote, job: Job) -> None:
        """Download the units of a job; retry a few times if any arrive damaged."""
        pack, span = job.pack, job.span
        for _ in range(_TRIES):
            try:
                content = remote.transport.get_range(pack.path, span.start, span.stop)
            except MissingFileError as error:
                raise AbsentDataError(
                    f"pack {pack.digest.hex()[:12]}: remote {remote.name!r} does not have it ({error})"
                    f"{remote.explain_missing(pack.digest)}",
                    remote=remote.name,
                    pack=pack.digest.hex(),
                ) from error
            except RemoteError as error:
                name = pack.digest.hex()[:12]
                raise type(error)(f"pack {name} from remote {remote.name!r}: {error}") from error
            self.figures.requests += 1
            self.figures.nbytes += span.nbytes
            bad = pack.filler.accept(span, content)
            if not len(bad):
                return
            self.figures.bad_units += len(bad)
        raise CorruptionError(
            f"remote {remote.name!r} ({remote.transport.url}), pack {pack.digest.hex()}: {len(bad)} of its rows "
            f"arrived damaged {_TRIES} times; push again from a clone that has them",
            where=f"{remote.name}: pack {pack.digest.hex()}",
        )

    def _wait(self, jobs: Sequence[Job], *, stall_s: float, on_working: OnWorking | None) -> None:
        """Wait for every job. Raise the first error met, or `TimeoutError` once nothing has arrived for `stall_s`."""
        waiting, done_nbytes, moved_s = deque(jobs), 0, time.monotonic()
        told_s = moved_s
        while waiting:
            job = waiting[0]
            if job.done.wait(min(_BEAT_S, stall_s)):
                waiting.popleft()
                done_nbytes += job.span.nbytes
                moved_s = time.monotonic()
                if job.error is not None:
                    raise job.error
            elif any(other.done.is_set() for other in waiting):
                waiting = deque(sorted(waiting, key=lambda other: not other.done.is_set()))
            elif time.monotonic() - max(moved_s, self._moved_s) >= stall_s:
                raise errors.TimeoutError(f"nothing arrived for {stall_s:g} s: {self._explain(job)}")
            if on_working is not None and time.monotonic() - told_s >= _BEAT_S:
                told_s = time.monotonic()
                on_working(done_nbytes, self._explain(job) if told_s - moved_s >= 2 * _BEAT_S else None)

    def _explain(self, job: Job) -> str:
        """Describe why a job takes so long, as far as is known."""
        name = job.pack.digest.hex()[:12]
        for remote in self._list_remotes(job.pack.digest, job.find_caller() or job.callers[0]):
            trouble = remote.transport.describe_trouble() or "no answer"
            return f"pack {name} from remote {remote.name!r} ({remote.transport.url}): {trouble}"
        return f"pack {name}: no remote"


def _find_refusal(jobs: Sequence[Job], environment: RemoteEnvironment) -> AuthenticationError | None:
    """Return the error of a failed job for an environment, if the job tried it."""
    return next(
        (job.refused[environment] for job in jobs if job.error is not None and environment in job.refused), None
    )
