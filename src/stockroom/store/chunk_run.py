"""Runs of chunks that are put together, and the threads that hash and write them in the background."""

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
    """The chunks that share a series of packs; `item_shape` is None for rows of many shapes."""

    dtype: str
    item_shape: tuple[int, ...] | None
    codec: str


@dataclass(slots=True)
class ChunkRun:
    """Consecutive chunks of one tensor. `whole` also hashes their bytes, for the digest of the whole tensor."""

    chunks: Sequence[memoryview]
    stream: Stream
    whole: blake3 | None = None
    digests: list[bytes] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """The bytes of all chunks."""
        return sum(map(len, self.chunks))


def make_chunk_list(nbytes: int, chunk_nbytes: int, whole: blake3, digests: Sequence[bytes]) -> ChunkList:
    """Return the chunk list of a tensor whose chunks `whole` has hashed, all of them."""
    joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
    return ChunkList(nbytes, chunk_nbytes, whole.digest(), joined)


class Hashing:
    """Runs of chunks that are being hashed."""

    def __init__(self, runs: Sequence[ChunkRun], tasks: Sequence[Future[None]]) -> None:
        self.runs = runs
        self._tasks = tasks

    def wait(self) -> Sequence[ChunkRun]:
        """Wait until the runs have their digests, and return them."""
        for task in self._tasks:
            task.result()
        return self.runs


class SideThreads(ThreadPoolExecutor):
    """A thread pool that still accepts work as the program ends, when no thread can be started."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future of `fn(...)`, which has already run if the program is ending."""
        if threading.main_thread().is_alive():
            return super().submit(fn, *args, **kwargs)
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class RunHasher:
    """Hashes runs of chunks in parallel on its own threads: BLAKE3's would not survive a fork."""

    def start(self, runs: Sequence[ChunkRun]) -> Hashing:
        """Start hashing all chunks, and feeding their bytes to the digests of their tensors.

        The next run of a tensor may only be started after waiting for this one.
        """
        if sum(run.nbytes for run in runs) < _TASK_NBYTES:
            for task in _iter_tasks(runs):
                task()
            return Hashing(runs, ())
        return Hashing(runs, [self._threads.submit(task) for task in list(_iter_tasks(runs))])

    def close(self) -> None:
        """Stop the threads."""
        threads = self.__dict__.pop("_threads", None)
        if threads is not None:
            threads.shutdown()

    @cached_property
    def _threads(self) -> SideThreads:
        return SideThreads(min(os.cpu_count() or 1, _MAX_THREADS), thread_name_prefix="stockroom-hash")


def _iter_tasks(runs: Sequence[ChunkRun]) -> Iterator[Callable[[], None]]:
    """Yield tasks of about equal size, except for large tensors, whose own digest must be computed in order."""
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
