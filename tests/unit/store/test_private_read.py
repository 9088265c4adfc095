"""Reading tensors into memory of the caller's own: mapped where they lie raw and in one piece, else copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from stockroom.errors import CorruptionError
from stockroom.file_map import map_private
from stockroom.store.chunk_run import ChunkRun, Stream
from stockroom.store.private_read import StoredTensor, locate_tensors, read_private
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

KIB, MIB = 1 << 10, 1 << 20
RAW = Stream("uint8", None, "raw")


def make_noise(nbytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng([seed, nbytes]).bytes(nbytes)


def put_tensors(store: TensorStore, tensors: Sequence[Sequence[bytes]], stream: Stream = RAW) -> list[StoredTensor]:
    """Put tensors, each given as its chunks, in this order."""
    writer = TensorWriter(store)
    try:
        runs = [ChunkRun([memoryview(chunk) for chunk in chunks], stream) for chunks in tensors]
        writer.put_hashed(writer.start_hashing(runs))
        writer.wait()
        writer.flush()
    finally:
        writer.close()
    return [name_tensor(chunks) for chunks in tensors]


def name_tensor(chunks: Sequence[bytes]) -> StoredTensor:
    digests = np.frombuffer(b"".join(blake3(chunk).digest() for chunk in chunks), np.uint8).reshape(-1, 32)
    return StoredTensor(digests, np.array([len(chunk) for chunk in chunks], np.int64))


def find_map(array: np.ndarray) -> str:
    """How the memory of an array is mapped: permissions and file; empty where it is no file's."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, _, *file = line.split(maxsplit=5)
        start, stop = (int(end, 16) for end in span.split("-"))
        if start <= address < stop:
            return f"{permissions} {Path(file[0]).name}" if file and "packs" in file[0] else ""
    raise AssertionError("the array lies nowhere")


def count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def hash_files(store: TensorStore) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        return {str(f): blake3(f.read_bytes()).hexdigest() for f in store.packs_directory.rglob("*") if f.is_file()}

    return read


def test_a_large_raw_tensor_is_mapped_and_a_small_one_alone_is_copied(store: TensorStore) -> None:
    chunks = [[make_noise(300 * KIB)], [make_noise(5 * MIB, 1)[: 4 * MIB], make_noise(MIB, 1)], [make_noise(KIB)]]
    large, several, small = put_tensors(store, chunks)
    for stored, expected in ((large, chunks[0]), (several, chunks[1])):
        (read,) = read_private(store, [stored])
        assert read.tobytes() == b"".join(expected)
        assert find_map(read) == "rw-p c.0"
        assert read.flags.writeable
    (read,) = read_private(store, [small])
    assert read.tobytes() == chunks[2][0]
    assert find_map(read) == ""
    assert read_private(store, []) == []


def test_neighbours_share_a_map_and_those_far_apart_do_not(store: TensorStore) -> None:
    chunks = [[make_noise(20 * KIB, n)] for n in range(5)] + [[make_noise(2 * MIB)]] + [[make_noise(80 * KIB, 9)]]
    stored = put_tensors(store, chunks)
    wanted = [*stored[:5], stored[6]]  # without the 2 MiB between them
    read = read_private(store, wanted)
    assert [array.tobytes() for array in read] == [chunks[n][0] for n in (0, 1, 2, 3, 4, 6)]
    assert {find_map(array) for array in read} == {"rw-p c.0"}  # small ones too, since together they are large
    assert read[4].ctypes.data - read[0].ctypes.data == 4 * 20 * KIB
    assert read[5].ctypes.data - read[4].ctypes.data != 20 * KIB + 2 * MIB
    before = Path("/proc/self/maps").read_text().count("/c.0")
    del read
    assert Path("/proc/self/maps").read_text().count("/c.0") == before - 2


def test_many_files_are_not_kept_open(store: TensorStore) -> None:
    stored = put_tensors(store, [[make_noise(70 * KIB, n)] for n in range(60)])
    read_private(store, stored[:1])
    before = count_files()
    kept = [read_private(store, [tensor])[0] for tensor in stored]
    assert count_files() == before
    assert [find_map(array) for array in kept] == ["rw-p c.0"] * 60


def test_each_tensor_asked_for_has_memory_of_its_own_however_equal(store: TensorStore) -> None:
    chunks = [[make_noise(100 * KIB)], [make_noise(KIB)]]
    large, small = put_tensors(store, chunks)
    read = read_private(store, [large, small, large, small, large])
    for position, array in enumerate(read):
        array[:] = position
    assert [int(array[0]) for array in read] == [0, 1, 2, 3, 4]
    assert [set(array.tolist()) for array in read] == [{0}, {1}, {2}, {3}, {4}]


def test_a_part_of_another_tensor_has_memory_of_its_own(store: TensorStore) -> None:
    chunks = [make_noise(MIB, n) for n in range(3)]
    put_tensors(store, [chunks])
    whole, middle, end = name_tensor(chunks), name_tensor(chunks[1:2]), name_tensor(chunks[1:])
    for order in ([whole, middle, end], [end, whole, middle], [middle, end, whole]):
        read = read_private(store, order)
        expected = {3 * MIB: b"".join(chunks), MIB: chunks[1], 2 * MIB: b"".join(chunks[1:])}
        for array in read:
            assert array.tobytes() == expected[len(array)]
            array[:] = 0


def test_what_is_written_to_it_never_reaches_the_file(
    store: TensorStore, hash_files: Callable[[], dict[str, str]]
) -> None:
    chunks = [[make_noise(200 * KIB, n)] for n in range(4)]
    stored = put_tensors(store, chunks)
    before = hash_files()
    for array in read_private(store, stored):
        array[:] = 0xAB
    assert hash_files() == before
    assert [array.tobytes() for array in read_private(store, stored)] == [chunk for (chunk,) in chunks]


def test_it_outlives_the_store_and_the_files(store: TensorStore) -> None:
    chunks = [[make_noise(200 * KIB)], [make_noise(KIB)]]
    read = read_private(store, put_tensors(store, chunks))
    store.close()
    shutil.rmtree(store.packs_directory)
    assert [array.tobytes() for array in read] == [chunk for (chunk,) in chunks]


@pytest.mark.parametrize("codec", ["lz4", "zstd", "blosc"])
def test_encoded_tensors_are_decoded(store: TensorStore, codec: str) -> None:
    chunks = [[bytes(100 * KIB) + make_noise(KIB)], [b"ab" * 40], [bytes(MIB), make_noise(100, 1) * 1000]]
    stored = put_tensors(store, chunks, Stream("uint8", None, codec))
    for array, expected in zip(read_private(store, [*stored, *stored]), [*chunks, *chunks], strict=True):
        assert array.tobytes() == b"".join(expected)
        assert array.flags.writeable
        assert find_map(array) == ""
        array[:] = 7
    assert read_private(store, stored[1:2])[0].tobytes() == b"ab" * 40


def test_chunks_that_lie_apart_are_joined(store: TensorStore) -> None:
    first, second, third = (make_noise(MIB, n) for n in range(3))
    put_tensors(store, [[first, second]])
    put_tensors(store, [[third]])  # into another pack
    put_tensors(store, [[bytes(200 * KIB)]], Stream("uint8", None, "zstd"))
    for chunks in ([first, third], [second, first], [third, bytes(200 * KIB), second], [first, first]):
        (read,) = read_private(store, [name_tensor(chunks)])
        assert read.tobytes() == b"".join(chunks)
        assert find_map(read) == ""
    (read,) = read_private(store, [name_tensor([first, second])])
    assert find_map(read) == "rw-p c.0"


def test_chunks_whose_lengths_leave_gaps_in_the_pack_are_joined(store: TensorStore) -> None:
    odd = [make_noise(100_001, 1), make_noise(100_001, 2), make_noise(5)]  # rows of a pack begin at multiples of 64
    (stored,) = put_tensors(store, [odd])
    (located,) = locate_tensors(store, [stored])
    assert located.offset == -1
    assert read_private(store, [stored])[0].tobytes() == b"".join(odd)
    even = [make_noise(64_000, 1), make_noise(64_000, 2), make_noise(5, 3)]
    (stored,) = put_tensors(store, [even])
    assert locate_tensors(store, [stored])[0].offset == 0
    assert read_private(store, [stored])[0].tobytes() == b"".join(even)


def test_rows_of_a_column_are_tensors_too(store: TensorStore) -> None:
    writer = TensorWriter(store)
    rows = np.frombuffer(make_noise(20 * 72 * KIB), np.uint8).reshape(20, -1)
    digests = writer.put_rows(rows, Stream("uint8", (72 * KIB,), "raw"))
    writer.flush()
    writer.close()
    wanted = [StoredTensor(digests[[n]], np.array([72 * KIB])) for n in (7, 3, 19)]
    read = read_private(store, [*wanted, StoredTensor(digests[4:6], np.array([72 * KIB] * 2))])
    assert [array.tobytes() for array in read] == [
        rows[7].tobytes(),
        rows[3].tobytes(),
        rows[19].tobytes(),
        rows[4:6].tobytes(),
    ]
    assert {find_map(array) for array in read} == {"rw-p c.0.0"}


def test_lengths_that_lie_are_corruption(store: TensorStore) -> None:
    (stored,) = put_tensors(store, [[make_noise(100 * KIB)]])
    for nbytes in (0, 100 * KIB - 1, 1 << 40):
        with pytest.raises(CorruptionError, match=f"its entry says {nbytes} bytes"):
            read_private(store, [StoredTensor(stored.digests, np.array([nbytes]))])
    with pytest.raises(CorruptionError, match="in no pack"):
        read_private(store, [StoredTensor(np.zeros((1, 32), np.uint8), np.array([1]))])


def test_a_pack_that_another_folder_took_the_place_of_is_opened_again(
    store: TensorStore, only_pack: Callable[[], Path]
) -> None:
    chunks = [[make_noise(100 * KIB, n)] for n in range(3)]
    stored = put_tensors(store, chunks)
    kept = read_private(store, stored)
    pack = only_pack()
    shutil.copytree(pack, pack.with_name("copy"))
    shutil.rmtree(pack)
    pack.with_name("copy").rename(pack)
    for _ in range(2):
        read = read_private(store, stored)
        assert [array.tobytes() for array in read] == [chunk for (chunk,) in chunks]
        assert find_map(read[0]) == "rw-p c.0"
    assert [array.tobytes() for array in kept] == [chunk for (chunk,) in chunks]


def test_a_part_of_a_file_is_mapped_from_any_byte_on(tmp_path: Path) -> None:
    content = make_noise(50_000)
    file = tmp_path / "file"
    file.write_bytes(content)
    with file.open("rb") as opened:
        for offset, nbytes in ((0, 50_000), (1, 10), (4095, 2), (4096, 45_904), (49_999, 1)):
            mapped = map_private(opened.fileno(), offset, nbytes)
            assert mapped is not None
            assert mapped.tobytes() == content[offset : offset + nbytes]
            mapped[:] = 0
    assert file.read_bytes() == content
    assert map_private(-1, 0, 100) is None  # what the system refuses is for the caller to copy
