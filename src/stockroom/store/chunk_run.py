"""Chunks that are put together, those of one tensor in order; and the threads that hash and write beside the caller."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from blake3 import blake3

from stockroom.digest import DIGEST_NBYTES
from stockroom.store.chunking import ChunkList

_MAX_THREADS: Final = 8
_TASK_NBYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stream:
    """What goes into one series of packs: `item_shape` None for rows of many shapes."""

    dtype: str
    item_shape: tuple[int, ...] | None
    codec: str


@dataclass(slots=True)
class ChunkRun:
    """Some consecutive chunks of one tensor. `whole` takes in their bytes too, for the digest of the whole tensor."""

    chunks: Sequence[memoryview]
    stream: Stream
    whole: blake3 | None = None
    digests: list[bytes] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of the chunks."""
        return sum(map(len, self.chunks))


def make_chunk_list(nbytes: int, chunk_nbytes: int, whole: blake3, digests: Sequence[bytes]) -> ChunkList:
    """The chunk list of a tensor all of whose chunks `whole` has taken in."""
    joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
    return ChunkList(nbytes, chunk_nbytes, whole.digest(), joined)


class Hashing:
    """Runs of chunks whose digests are being computed."""

    def __init__(self, runs: Sequence[ChunkRun], tasks: Sequence[Future[None]]) -> None:
        self.runs = runs
        self._tasks = tasks

    def wait(self) -> Sequence[ChunkRun]:
        """The runs, once they have their digests."""
        for task in self._tasks:
            task.result()
        return self.runs


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


class RunHasher:
    """Hashes runs of chunks side by side, on threads of its own: BLAKE3's would not outlive a fork."""

    def start(self, runs: Sequence[ChunkRun]) -> Hashing:
        """Begin to set the digests of all chunks, and to take their bytes into the tensors' digests.

        A tensor's next run may only be started after this one has been waited for.
        """
        if sum(run.nbytes for run in runs) < _TASK_NBYTES:
            for task in _iter_tasks(runs):
                task()
            return Hashing(runs, ())
        return Hashing(runs, [self._threads.submit(task) for task in list(_iter_tasks(runs))])

    def close(self) -> None:
        """End the threads."""
        threads = self.__dict__.pop("_threads", None)
        if threads is not None:
            threads.shutdown()

    @cached_property
    def _threads(self) -> SideThreads:
        return SideThreads(min(os.cpu_count() or 1, _MAX_THREADS), thread_name_prefix="stockroom-hash")


def _iter_tasks(runs: Sequence[ChunkRun]) -> Iterator[Callable[[], None]]:
    """What there is to do: about equal parts, but for large tensors, whose own digest has to be made in order."""
    small: list[ChunkRun] = []
    nbytes = 0
    for run in runs:
        if run.whole is not None:
            yield lambda run=run: _feed(run)  # type: ignore[misc]
        if len(run.chunks) > 1:
            run.digests = [b""] * len(run.chunks)
            for position in range(len(run.chunks)):
                yield lambda run=run, position=position: _hash_one(run, position)  # type: ignore[misc]
            continue
        small.append(run)
        nbytes += run.nbytes
        if nbytes >= _TASK_NBYTES:
            yield lambda some=small: _hash_small(some)  # type: ignore[misc]
            small, nbytes = [], 0
    yield lambda: _hash_small(small)


def _feed(run: ChunkRun) -> None:
    assert run.whole is not None
    for chunk in run.chunks:
        run.whole.update(chunk)


def _hash_one(run: ChunkRun, position: int) -> None:
    run.digests[position] = blake3(run.chunks[position]).digest()


def _hash_small(runs: Sequence[ChunkRun]) -> None:
    for run in runs:
        run.digests = [blake3(chunk).digest() for chunk in run.chunks]
