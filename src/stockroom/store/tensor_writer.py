"""Writes chunks: hashes them, skips those that the store has, and streams the rest into packs.

Memory is bounded: a small batch of rows is looked up at once, then goes to the file of its pack. A full pack is sealed
and synced in the background while the next one fills. Other processes find a chunk only once its pack is on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, Buffer, ChunkDigest, PackDigest
from stockroom.errors import StockroomError
from stockroom.store.chunk_run import ChunkRun, Hashing, RunHasher, SideThreads, Stream, make_chunk_list
from stockroom.store.chunking import ChunkList, measure_chunk, split_tensor
from stockroom.store.dtypes import format_storage, parse_dtype
from stockroom.store.pack.layout import PACK_TARGET_NBYTES, align_row, locate_pack
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.pack_writer import PackWriter, SealedPack
from stockroom.store.pack.writer_folder import PUBLISHING_SUFFIX, collect_leftovers, create_writer_folder
from stockroom.store.tensor_store import TensorStore

_BUFFER_ROWS = 512
_BUFFER_NBYTES = 8 << 20
_BUFFERS_NBYTES = 64 << 20
_MAX_PACKS = 256
_MAX_OPEN_FILES = 32
_MAX_SYNCING = 2

OnReused: TypeAlias = Callable[[PackDigest], None]
"""Called with a pack that was about to be removed and is used again."""


@dataclass(slots=True)
class _RowBuffer:
    """Rows of one stream not yet looked up in the store."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    nbytes: int = 0


class TensorWriter:
    """Puts chunks into a store, from one thread at a time. Call `flush` before metadata refers to the chunks."""

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        store.register(collect_leftovers(store.tmp_directory, store.packs_directory))
        self._directory, self._lock = create_writer_folder(store.tmp_directory)
        self._serial = 0
        self._open: dict[Stream, PackWriter] = {}  # least recently used first
        self._active: dict[PackWriter, None] = {}  # those with an open file, least recently used first
        self._buffers: dict[Stream, _RowBuffer] = {}
        self._buffered_nbytes = 0
        self._syncing: list[tuple[Future[SealedPack], PackWriter]] = []
        self._syncer = SideThreads(1, thread_name_prefix="stockroom-sync")
        self._behind = SideThreads(1, thread_name_prefix="stockroom-write")
        self._hasher = RunHasher()
        self._failure: BaseException | None = None
        self._avoided: dict[int, PackDigest] = {}
        self._marked: frozenset[PackDigest] = frozenset()
        self._on_reused: OnReused = lambda _: None
        self.written_nbytes = 0

    def avoid(self, packs: Collection[PackDigest], on_reused: OnReused) -> None:
        """Put chunks again, from now on, that only these packs hold, since the packs are about to be removed.

        `on_reused` is called with such a pack if the same pack is written again, before it is in its place.
        """
        known, self._marked = self._store.catalog.read_packs() if packs else {}, frozenset(packs)
        self._avoided = {number: digest for number, digest in known.items() if digest in self._marked}
        self._on_reused = on_reused

    def put_row(self, data: bytes, stream: Stream) -> ChunkDigest:
        """Put one chunk; returns its digest."""
        digest = blake3(data).digest()
        if not self._has(digest):
            buffer = self._buffers.get(stream)
            if buffer is None:
                buffer = self._buffers[stream] = _RowBuffer()
            if digest not in buffer.rows:
                buffer.rows[digest] = data
                buffer.nbytes += len(data)
                self._buffered_nbytes += len(data)
                if len(buffer.rows) >= _BUFFER_ROWS or buffer.nbytes >= _BUFFER_NBYTES:
                    self._drain(stream)
                elif self._buffered_nbytes >= _BUFFERS_NBYTES:
                    self._drain(max(self._buffers, key=lambda each: self._buffers[each].nbytes))
        return ChunkDigest(digest)

    def put_rows(self, rows: NDArray[np.uint8], stream: Stream) -> NDArray[np.uint8]:
        """Put the rows of a C-contiguous array `(n, row_nbytes)`, unchanged until `wait`; returns digests `(n, 32)`."""
        self._drain(stream)
        digests = [blake3(row).digest() for row in rows]
        joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
        fresh = self._select_new(digests, joined)
        start = 0
        with self._remember_failure():
            while start < len(fresh):
                start += self._append_run(rows, digests, fresh[start:], stream)
        return joined

    def wait(self) -> None:
        """Wait until every array given to `put_rows` has been written."""
        try:
            for writer in self._iter_writers():
                writer.wait()
        except BaseException as error:  # the caller may change data that is still being written
            self._failure = self._failure or error
            raise

    def put_tensor(self, raw: Buffer, shape: tuple[int, ...], *, dtype: str, codec: str) -> ChunkList:
        """Put a tensor over 4 MiB; returns its chunk list, which the caller must store as a metadata object."""
        chunk_nbytes = measure_chunk(shape, parse_dtype(dtype).itemsize)
        run = ChunkRun(split_tensor(raw, chunk_nbytes), Stream(format_storage(dtype), None, codec), whole=blake3())
        self.put_hashed(self.start_hashing([run]))
        self.wait()  # from here on, the caller may change the tensor
        assert run.whole is not None
        return make_chunk_list(run.nbytes, chunk_nbytes, run.whole, run.digests)

    def start_hashing(self, runs: Sequence[ChunkRun]) -> Hashing:
        """Start hashing the chunks of many tensors; `put_hashed` puts them."""
        return self._hasher.start(runs)

    def put_hashed(self, hashing: Hashing) -> None:
        """Put chunks into ragged packs once they are hashed; they must not change before `wait`.

        The new chunks of a run follow each other in one pack, if they fit into one.
        """
        runs = hashing.wait()
        digests = [digest for run in runs for digest in run.digests]
        if not digests:
            return
        for stream in {run.stream for run in runs}:
            self._drain(stream)
        joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
        fresh = set(self._select_new(digests, joined))
        first = 0
        with self._remember_failure():
            for run in runs:
                mine = [position for position in range(len(run.chunks)) if first + position in fresh]
                self._take_run(run, mine)
                first += len(run.chunks)

    def _take_run(self, run: ChunkRun, positions: Sequence[int]) -> None:
        nbytes = sum(align_row(len(run.chunks[position])) for position in positions)
        if 0 < nbytes <= PACK_TARGET_NBYTES:
            self._make_room(run.stream, nbytes)
        for position in positions:
            self._take(run.chunks[position], run.digests[position], run.stream)

    @property
    def is_flushed(self) -> bool:
        """Whether the store can find every chunk put so far."""
        return not (self._buffers or self._open or self._syncing)

    def read(self, digest: bytes) -> bytes | None:
        """Return the raw bytes of an unflushed chunk; None if there is no such chunk."""
        for buffer in self._buffers.values():
            if digest in buffer.rows:
                return buffer.rows[digest]
        for writer in self._open.values():
            data = writer.find_row(digest)
            if data is not None:
                self._use(writer)
                return data
        if any(digest in writer.digests for _, writer in self._syncing):
            self._register(self._syncing)  # from here on, it is in the store
        return None

    def flush(self) -> None:
        """Make every chunk put so far durable and findable; raises `StockroomError` if an earlier write failed."""
        for stream in list(self._buffers):
            self._drain(stream)
        with self._remember_failure():
            for stream in list(self._open):
                self._seal_here(stream)
            self._register(self._syncing)

    def abort(self) -> None:
        """Forget chunks in unsealed packs, and remove their files. Sealed packs are kept if they can be."""
        self._buffers.clear()
        self._buffered_nbytes = 0
        for writer in self._open.values():
            writer.abort()
        self._open.clear()
        self._active.clear()
        syncing, self._syncing = self._syncing, []
        for entry in syncing:
            published, writer = entry
            if published.exception() is not None:  # of any kind: an interrupt too is only reported once
                writer.abort()
                continue
            try:
                self._register([entry])
            except (OSError, StockroomError):
                writer.abort()
        self._failure = None

    def close(self) -> None:
        """Stop writing, and remove packs that are not flushed."""
        self.abort()
        self._syncer.shutdown()
        self._behind.shutdown()
        self._hasher.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._lock.release()

    def _drain(self, stream: Stream) -> None:
        """Look up the buffered rows of a stream, and append those that the store lacks."""
        if stream not in self._buffers:
            return
        with self._remember_failure():
            buffer = self._buffers.pop(stream)
            self._buffered_nbytes -= buffer.nbytes
            digests = list(buffer.rows)
            joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_NBYTES)
            for position in self._select_new(digests, joined):
                self._take(buffer.rows[digests[position]], digests[position], stream)

    @contextmanager
    def _remember_failure(self) -> Iterator[None]:
        """Prevent flushing after a write that failed half-way: its chunks are in no pack."""
        if self._failure is not None:
            raise StockroomError(
                f"an earlier write failed ({self._failure!r}); discard the writes since the last flush (`stock reset`, "
                "or leave the write block) and repeat them"
            ) from self._failure
        try:
            yield
        except BaseException as error:
            self._failure = error
            raise

    def _has(self, digest: bytes) -> bool:
        """Return whether a pack of this writer, not yet findable in the store, has the chunk."""
        return any(digest in writer.digests for writer in self._iter_writers())

    def _iter_writers(self) -> Iterator[PackWriter]:
        yield from self._open.values()
        for _, writer in self._syncing:
            yield writer

    def _select_new(self, digests: Sequence[bytes], joined: NDArray[np.uint8]) -> Sequence[int]:
        """Return the positions of chunks that neither the store nor this writer has, each digest once, ascending."""
        self._store.index.refresh()  # others may have written since
        known = self._store.contains(joined, outside=self._avoided)
        unknown = np.flatnonzero(~known).tolist()
        wanted = dict.fromkeys([digests[position] for position in unknown])
        for writer in self._iter_writers():
            if not wanted.keys().isdisjoint(writer.digests):
                wanted = {digest: None for digest in wanted if digest not in writer.digests}
        if len(wanted) == len(digests):
            return range(len(digests))
        fresh = []
        for position in unknown:
            if digests[position] in wanted:
                del wanted[digests[position]]
                fresh.append(position)
        return fresh

    def _take(self, data: Buffer, digest: bytes, stream: Stream) -> None:
        writer, _ = self._make_room(stream, len(data))
        writer.append_row(data, digest)
        self.written_nbytes += len(data)

    def _append_run(
        self, rows: NDArray[np.uint8], digests: Sequence[bytes], fresh: Sequence[int], stream: Stream
    ) -> int:
        """Append as many of the new rows as the open pack has room for; returns their number."""
        writer, room = self._make_room(stream, rows.shape[1])
        count = min(room, len(fresh))
        first, last = fresh[0], fresh[count - 1]
        if last - first == count - 1:
            writer.append_rows(rows[first : last + 1], digests[first : last + 1])
        else:
            taken = fresh[:count]
            writer.append_rows(rows[taken], [digests[position] for position in taken])
        self.written_nbytes += count * rows.shape[1]
        return count

    def _make_room(self, stream: Stream, row_nbytes: int) -> tuple[PackWriter, int]:
        writer = self._open.get(stream)
        if writer is not None:
            room = writer.count_room(row_nbytes)
            if room > 0:
                self._open[stream] = self._open.pop(stream)
                self._use(writer)
                return writer, room
            self._seal(stream)
        if len(self._open) >= _MAX_PACKS:
            self._seal(next(iter(self._open)))
        serial, self._serial = self._serial, self._serial + 1  # first: an interrupt may leave the folder behind
        writer = self._open[stream] = PackWriter(
            self._directory / str(serial),
            dtype=stream.dtype,
            item_shape=stream.item_shape,
            codec=stream.codec,
            executor=self._behind,
        )
        self._use(writer)
        return writer, writer.count_room(row_nbytes)

    def _use(self, writer: PackWriter) -> None:
        """Note that a pack's file is open; another file is closed if too many are."""
        self._active.pop(writer, None)
        self._active[writer] = None
        if len(self._active) > _MAX_OPEN_FILES:
            idle = next(iter(self._active))
            idle.rest()
            del self._active[idle]

    def _seal(self, stream: Stream) -> None:
        """Start sealing and publishing a pack in the background; register a pack that has been published."""
        writer = self._open[stream]
        self._syncing.append((self._syncer.submit(self._publish, writer), writer))
        del self._open[stream]
        self._active.pop(writer, None)
        if len(self._syncing) > _MAX_SYNCING:
            self._register(self._syncing[:1])

    def _seal_here(self, stream: Stream) -> None:
        """Seal and publish a pack in this thread: a small commit is done before another thread would wake up."""
        writer = self._open[stream]
        published: Future[SealedPack] = Future()
        published.set_result(self._publish(writer))
        self._syncing.append((published, writer))
        del self._open[stream]
        self._active.pop(writer, None)

    def _publish(self, writer: PackWriter) -> SealedPack:
        """Seal a pack, sync it and move it into place. If this process dies, the marker says where the pack went."""
        sealed = writer.seal()
        self._marker(sealed.digest).touch()
        target = locate_pack(self._store.packs_directory, sealed.digest)
        if sealed.digest not in self._marked:
            writer.publish(sealed, target)
            return sealed
        # This very pack is about to be removed, or was: its old mark would let the next gc remove it at once.
        with lock_packs(self._store.packs_directory, alone=False):
            self._on_reused(sealed.digest)
            writer.publish(sealed, target)
        return sealed

    def _marker(self, digest: PackDigest) -> Path:
        return self._directory / f"{digest.hex()}{PUBLISHING_SUFFIX}"

    def _register(self, finished: Sequence[tuple[Future[SealedPack], PackWriter]]) -> None:
        """Wait until packs are published, and make them findable."""
        done = {id(writer) for _, writer in finished}
        sealed = [future.result() for future, _ in finished]
        self._store.register([(pack.digest, pack.manifest) for pack in sealed])
        self._syncing = [entry for entry in self._syncing if id(entry[1]) not in done]
        for pack in sealed:
            self._marker(pack.digest).unlink(missing_ok=True)
