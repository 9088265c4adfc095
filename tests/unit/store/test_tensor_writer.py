"""Writing chunks: each once, in bounded memory, all or nothing."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from stockroom.errors import CorruptionError
from stockroom.store.chunk_run import Stream
from stockroom.store.codecs import Codec
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


RAW = Stream("uint8", (1000,), "raw")


def test_a_chunk_is_stored_once_whatever_it_is_put_as_and_however_often(store, writer, rows):
    digests = writer.put_rows(np.concatenate([rows, rows[:50]]), RAW)
    assert (digests[300:] == digests[:50]).all()
    for stream in (RAW, Stream("uint8", None, "zstd"), Stream("float64", (125,), "raw")):
        assert writer.put_row(rows[3].tobytes(), stream) == digests[3].tobytes()
    writer.flush()
    assert writer.written_nbytes == rows.nbytes
    writer.put_rows(rows[::-1].copy(), Stream("uint8", (10, 100), "blosc"))
    writer.flush()
    assert writer.written_nbytes == rows.nbytes
    assert sum(store.cache.get(number).rows for number in store.catalog.read_packs()) == 300


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_new_rows_among_known_ones_are_put(store, writer, rows, codec):
    stream = Stream("uint8", (1000,), codec)
    writer.put_rows(rows[::3].copy(), stream)
    writer.flush()
    twice = np.concatenate([rows, rows[5:9]])
    digests = writer.put_rows(twice, stream)
    writer.flush()
    assert writer.written_nbytes == rows.nbytes
    assert sum(store.cache.get(number).rows for number in store.catalog.read_packs()) == 300
    assert (store.gather(store.locate(digests, 1000), 1000) == twice).all()


def test_rows_of_packs_that_are_on_their_way_to_the_disk_can_be_read(store, writer, rows, monkeypatch):
    monkeypatch.setattr("stockroom.store.pack.pack_writer.PACK_TARGET_NBYTES", 50_000)
    digests = writer.put_rows(rows, RAW)
    writer.wait()
    assert writer.read(digests[-1].tobytes()) == rows[-1].tobytes()
    assert not store.contains(digests[200:]).any()
    for digest, row in zip(digests[200:250], rows[200:250], strict=True):
        found = writer.read(digest.tobytes())
        assert (found or bytes(store.read(int(store.locate(digest.reshape(1, 32))[0])))) == row.tobytes()
    assert store.contains(digests[:250]).all()


def test_nothing_is_findable_before_flush_and_everything_after(store, writer, rows):
    digests = writer.put_rows(rows, RAW)
    single = writer.put_row(b"a row of its own" * 10, Stream("uint8", None, "raw"))
    assert not store.contains(digests).any()
    assert writer.read(digests[7].tobytes()) == rows[7].tobytes()
    assert writer.read(single) == b"a row of its own" * 10
    assert writer.read(bytes(32)) is None
    writer.flush()
    assert store.contains(digests).all()
    assert bytes(store.read(int(store.locate(np.frombuffer(single, np.uint8).reshape(1, 32))[0]))) == (
        b"a row of its own" * 10
    )


def test_aborted_chunks_leave_no_trace_and_can_be_put_again(store, writer, rows):
    digests = writer.put_rows(rows, RAW)
    writer.put_row(b"waiting" * 20, Stream("uint8", None, "raw"))
    writer.abort()
    writer.flush()
    assert not store.contains(digests).any()
    assert list(store.packs_directory.iterdir()) == []
    writer.put_rows(rows, RAW)
    writer.flush()
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()


def test_rows_beyond_one_pack_go_on_in_the_next(store, writer):
    rows = np.random.default_rng(0).integers(0, 1 << 32, (20, 1 << 20)).astype(np.uint32)  # 4 MiB each
    digests = writer.put_rows(rows.view(np.uint8), Stream("uint32", (1 << 20,), "raw"))
    writer.flush()
    assert len(store.catalog.read_packs()) == 2
    locations = store.locate(digests, 4 << 20)
    for row in (0, 15, 16, 19):
        assert (store.gather(locations[row : row + 1], 4 << 20).view(np.uint32) == rows[row]).all()


@pytest.mark.parametrize("codec", ["raw", "zstd", "auto"])
def test_rows_of_many_shapes_in_turn_make_a_pack_for_each_shape(store, writer, codec):
    shapes = range(1, 101)
    made = {shape: np.random.default_rng(shape).integers(0, 256, (3, shape), np.uint8) for shape in shapes}
    files = count_open_files()
    digests = {shape: [] for shape in shapes}
    for turn in range(3):
        for shape in shapes:
            row = made[shape][turn : turn + 1]
            digests[shape].append(writer.put_rows(row, Stream("uint8", (1, shape), codec)))
    assert count_open_files() < files + 64
    for shape in (1, 50, 100):  # packs whose files are closed are read, and then written, again
        assert writer.read(digests[shape][0].tobytes()) == made[shape][0].tobytes()
    writer.flush()
    packs = [store.cache.get(number) for number in store.catalog.read_packs()]
    assert sorted(pack.layout.unit_nbytes for pack in packs) == list(shapes)
    for shape in shapes:
        located = store.locate(np.concatenate(digests[shape]), shape)
        assert (store.gather(located, shape) == made[shape]).all()


def test_a_large_tensor_may_be_changed_as_soon_as_it_is_put(store, writer):
    tensor = np.random.default_rng(0).integers(0, 256, 30 << 20).astype(np.uint8)
    expected = blake3(tensor).digest()
    chunks = writer.put_tensor(tensor, tensor.shape, dtype="uint8", codec="raw")
    tensor[:] = 0
    writer.flush()
    assert chunks.tensor_digest == expected
    read = b"".join(store.read_many(store.locate(chunks.digests)))
    assert blake3(read).digest() == expected


def test_a_chunk_of_another_length_than_its_entry_says_is_corruption(store, put, rows):
    digests = put(rows)
    with pytest.raises(CorruptionError, match="its entry says 999 bytes, found 1000"):
        store.locate(digests, 999)
    with pytest.raises(CorruptionError, match=digests[4].tobytes().hex()):
        store.locate(digests[3:6], np.array([1000, 10**12, 1000]))


def test_an_unknown_chunk_is_corruption_that_names_it(store, put, rows):
    put(rows)
    unknown = np.full((2, 32), 0xAB, np.uint8)
    with pytest.raises(CorruptionError, match=r"abab.* 1 more are in no pack"):
        store.locate(unknown)


def test_auto_settles_for_each_pack_from_its_first_rows(store, writer):
    noise = np.random.default_rng(0).integers(0, 256, (400, 1000)).astype(np.uint8)
    writer.put_rows(noise, Stream("uint8", (1000,), "auto"))
    writer.put_rows(
        np.arange(100_000, dtype=np.int32).reshape(100, 1000).view(np.uint8), Stream("int32", (1000,), "auto")
    )
    writer.put_row(bytes(1000), Stream("uint8", None, "auto"))
    writer.flush()
    codecs = {
        (pack.layout.dtype, pack.layout.is_ragged): pack.layout.codec
        for pack in map(store.cache.get, store.catalog.read_packs())
    }
    assert codecs == {("uint8", False): Codec.RAW, ("int32", False): Codec.BLOSC, ("uint8", True): Codec.LZ4}


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from stockroom.errors import StockroomError
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.chunk_run import Stream

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail with an error, as on a full disk
store = TensorStore(Path(sys.argv[1]))
writer = TensorWriter(store)
stream = Stream("uint8", (1 << 16,), sys.argv[2])
rows = np.random.default_rng(0).integers(0, 256, (64, 1 << 16)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
try:
    for start in range(0, 64, 16):
        for row in rows[start : start + 16]:
            writer.put_row(row.tobytes(), stream)
    writer.flush()
    sys.exit("the disk was not full")
except OSError as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
try:
    writer.flush()
    sys.exit("half of it was flushed")
except StockroomError as error:
    print(error)
writer.abort()
digests = writer.put_rows(rows, stream)
writer.flush()
assert (store.gather(store.locate(digests, 1 << 16), 1 << 16) == rows).all()
writer.close()
assert list(store.tmp_directory.iterdir()) == []
print("whole")
"""


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_after_a_full_disk_nothing_half_written_is_flushed_and_writing_goes_on(tmp_path, codec):
    run = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "store"), codec], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    first, refusal, last = run.stdout.splitlines()
    assert (first, last) == ("OSError", "whole")
    assert "an earlier write failed" in refusal


def test_a_torn_pack_is_not_taken_for_a_copy_and_writing_goes_on_without_it(store, writer, rows, only_pack):
    writer.put_rows(rows[:100], RAW)
    writer.flush()
    (only_pack() / "chunks").write_bytes(b"torn")
    store.cache.forget()
    digests = writer.put_rows(rows[:200], RAW)
    writer.flush()
    assert (store.gather(store.locate(digests, 1000), 1000) == rows[:200]).all()


_MEASURE = """
import sys
from pathlib import Path
from pathlib import Path
import numpy as np
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.chunk_run import Stream
from stockroom.testing.peak_memory import read_peak_nbytes

store = TensorStore(Path(sys.argv[1]))
writer = TensorWriter(store)
stream = Stream("uint8", (50_000,), "raw")
block = np.random.default_rng(0).integers(0, 256, 50_000 + 8000).astype(np.uint8).tobytes()
writer.put_row(block[:50_000], stream)
writer.flush()
before = read_peak_nbytes()
for start in range(1, 8000):
    writer.put_row(block[start : start + 50_000], stream)
writer.flush()
after = read_peak_nbytes()
writer.close()
print(sum(store.cache.get(number).rows for number in store.catalog.read_packs()), after - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from Linux's /proc")
def test_400_mb_of_single_rows_pass_through_bounded_memory(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, run.stdout.split())
    assert rows == 8000
    assert 0 < grown < 350 << 20


def _write_series(root, seed: int, start) -> None:
    store = TensorStore(root)
    rng = np.random.default_rng(seed)
    start.wait()
    for _ in range(12):
        writer = TensorWriter(store)  # clears dead writers away; the other one is alive
        writer.put_rows(rng.integers(0, 256, (700, 100)).astype(np.uint8), Stream("uint8", (100,), "raw"))
        writer.flush()
        writer.close()
    store.close()


def test_two_processes_write_different_packs_at_once(tmp_path):
    root = tmp_path / "store"
    TensorStore(root).close()
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    children = [context.Process(target=_write_series, args=(root, seed, start)) for seed in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    store = TensorStore(root)
    assert len(store.catalog.read_packs()) == 24
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        for _ in range(12):
            rows = rng.integers(0, 256, (700, 100)).astype(np.uint8)
            digests = np.frombuffer(b"".join(blake3(row).digest() for row in rows), np.uint8).reshape(-1, 32)
            assert (store.gather(store.locate(digests, 100), 100) == rows).all()
    assert list(store.tmp_directory.iterdir()) == []
    store.close()
