"""Runs of chunks: hashed side by side to the digests that one thread would give, and put next to each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from blake3 import blake3

from stockroom.store.chunk_run import ChunkRun, RunHasher, Stream, make_chunk_list
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

RAW = Stream("uint8", None, "raw")
MIB = 1 << 20


def make_chunks(count: int, nbytes: int, seed: int = 0) -> list[memoryview]:
    data = np.random.default_rng(seed).integers(0, 256, (count, nbytes), dtype=np.uint8)
    return [memoryview(row) for row in data]  # type: ignore[arg-type]


@pytest.fixture
def hasher() -> Iterator[RunHasher]:
    made = RunHasher()
    yield made
    made.close()


def count_threads() -> int:
    return sum(thread.name.startswith("stockroom-hash") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("count", "nbytes"),
    [(1, 10), (1, 3 * MIB), (7, MIB), (40, 100_000), (3, 0)],
    ids=["tiny", "one", "few", "many", "nothing"],
)
def test_digests_are_those_of_each_chunk(hasher: RunHasher, count: int, nbytes: int) -> None:
    runs = [ChunkRun(make_chunks(count, nbytes, seed), RAW) for seed in range(3)]
    runs += [ChunkRun([chunk], RAW) for chunk in make_chunks(20, 90_000, 9)]
    assert hasher.start(runs).wait() is runs
    for run in runs:
        assert run.digests == [blake3(chunk).digest() for chunk in run.chunks]
        assert run.nbytes == sum(map(len, run.chunks))


def test_a_tensor_of_several_runs_is_taken_in_in_order(hasher: RunHasher) -> None:
    chunks = make_chunks(12, MIB)
    whole, digests = blake3(), []
    for start in (0, 5, 11):
        run = ChunkRun(chunks[start : {0: 5, 5: 11, 11: 12}[start]], RAW, whole=whole)
        hasher.start([ChunkRun(make_chunks(1, MIB, 3), RAW), run]).wait()
        digests += run.digests
    listed = make_chunk_list(12 * MIB, MIB, whole, digests)
    assert listed.tensor_digest == blake3(b"".join(chunks)).digest()
    assert decode_chunk_list(listed.encode(), where="here").digests.tobytes() == b"".join(digests)


def test_little_is_hashed_where_it_is_and_threads_end_when_closed(hasher: RunHasher) -> None:
    before = count_threads()
    hasher.start([ChunkRun(make_chunks(3, 1000), RAW)]).wait()
    assert count_threads() == before
    for _ in range(2):  # once closed it can be used again
        hasher.start([ChunkRun(make_chunks(5, MIB), RAW)]).wait()
        assert count_threads() > before
        hasher.close()
        assert count_threads() == before
    assert hasher.start([]).wait() == []


# -- how they are put


def put(writer: TensorWriter, *runs: list[memoryview], stream: Stream = RAW) -> list[np.ndarray]:
    made = [ChunkRun(chunks, stream) for chunks in runs]
    writer.put_hashed(writer.start_hashing(made))
    writer.wait()
    return [np.frombuffer(b"".join(run.digests), np.uint8).reshape(-1, 32) for run in made]


def test_the_chunks_of_a_run_follow_each_other_in_one_pack(store: TensorStore, writer: TensorWriter) -> None:
    runs = [make_chunks(14, 4 * MIB, seed) for seed in range(2)]  # 56 MiB each: two do not fit one pack of 64 MiB
    first, second = put(writer, runs[0], runs[1])
    writer.flush()
    for digests, chunks in ((first, runs[0]), (second, runs[1])):
        locations = store.locate(digests)
        assert (np.diff(locations.astype(np.int64)) == 1).all()
        assert len(np.unique(locations >> ROW_BITS)) == 1
        assert [bytes(data) for data in store.read_many(locations)] == [bytes(chunk) for chunk in chunks]
    assert len(store.catalog.read_packs()) == 2


def test_equal_chunks_are_stored_once_within_a_run_among_runs_and_later(
    store: TensorStore, writer: TensorWriter
) -> None:
    same, others = make_chunks(1, MIB)[0], make_chunks(3, MIB, 1)
    put(writer, [same, others[0], same], [others[1], same], [others[1]])
    assert writer.written_nbytes == 3 * MIB
    put(writer, [others[2], same])
    writer.flush()
    assert writer.written_nbytes == 4 * MIB
    put(writer, [same, *others])
    writer.flush()
    assert writer.written_nbytes == 4 * MIB


def test_runs_may_be_hashed_while_those_before_are_put(store: TensorStore, writer: TensorWriter) -> None:
    runs = [[ChunkRun(make_chunks(3, MIB, seed), RAW)] for seed in range(6)]
    started = writer.start_hashing(runs[0])
    for following in [*runs[1:], []]:
        ahead = writer.start_hashing(following)
        writer.put_hashed(started)
        started = ahead
    writer.put_hashed(started)
    writer.flush()
    digests = np.frombuffer(b"".join(digest for (run,) in runs for digest in run.digests), np.uint8).reshape(-1, 32)
    read = store.read_many(store.locate(digests))
    assert [bytes(data) for data in read] == [bytes(chunk) for (run,) in runs for chunk in run.chunks]


def test_runs_of_several_streams_go_into_packs_of_their_own(store: TensorStore, writer: TensorWriter) -> None:
    made = [
        ChunkRun(make_chunks(2, MIB, seed), Stream(dtype, None, "auto"))
        for seed, dtype in enumerate(("uint8", "float32"))
    ]
    writer.put_hashed(writer.start_hashing(made))
    writer.flush()
    assert {pack.layout.dtype for pack in store.iter_packs()} == {"uint8", "float32"}
