import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stockroom.errors import CorruptionError, InvalidInputError, StockroomError
from stockroom.importers import source
from stockroom.importers.idx import iter_idx, read_idx_header

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def encode_idx(values: np.ndarray) -> bytes:
    code = CODES[values.dtype.newbyteorder("=").str[1:]]
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def read_all(path: Path) -> np.ndarray:
    header = read_idx_header(path)
    batches = list(iter_idx(path))
    return np.concatenate(batches) if batches else np.empty(header.shape, header.dtype.newbyteorder("="))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_every_dtype_reads_back_in_the_machines_byte_order(tmp_path: Path, code: str, compress: bool) -> None:
    values = (np.arange(2 * 3 * 4) - 5).astype(code).reshape(2, 3, 4)
    data = encode_idx(values)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(data) if compress else data)

    read = read_all(path)

    assert read.dtype == np.dtype(code)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values)


@given(
    npst.arrays(
        st.sampled_from([np.dtype(code) for code in CODES]),
        npst.array_shapes(max_dims=4, max_side=5),
    )
)
def test_any_array_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "values"
    path.write_bytes(encode_idx(values))
    assert read_all(path).tobytes() == values.tobytes()


def test_batches_are_bounded_and_own_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BATCH_NBYTES", 100)
    values = np.arange(70 * 9, dtype=np.uint8).reshape(70, 3, 3)
    path = tmp_path / "values"
    path.write_bytes(encode_idx(values))

    batches = list(iter_idx(path))

    assert [len(batch) for batch in batches] == [11, 11, 11, 11, 11, 11, 4]
    assert all(batch.flags.writeable for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), values)


def test_the_real_images_read_as_gzip_and_plain(
    tmp_path: Path, fashion_mnist: Path, fashion_images: np.ndarray
) -> None:
    compressed = fashion_mnist / "t10k-images-idx3-ubyte.gz"
    plain = tmp_path / "t10k-images-idx3-ubyte"
    plain.write_bytes(gzip.decompress(compressed.read_bytes()))

    np.testing.assert_array_equal(read_all(compressed), fashion_images)
    np.testing.assert_array_equal(read_all(plain), fashion_images)


def test_a_file_of_another_kind_is_named_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG....")
    with pytest.raises(InvalidInputError, match=r"picture: not an IDX file.*89 50 4e 47"):
        read_idx_header(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing-here: no such file"):
        read_idx_header(tmp_path / "nothing-here")


@pytest.mark.parametrize("change", [-1, 1, 200], ids=["one short", "one long", "much long"])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_a_wrong_length_is_corruption(tmp_path: Path, change: int, compress: bool) -> None:
    data = encode_idx(np.zeros((5, 4, 4), np.uint8))
    data = data[:change] if change < 0 else data + bytes(change)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(CorruptionError, match=r"values: expected (80|96) bytes"):
        list(iter_idx(path))


def test_a_cut_gzip_file_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "values.gz"
    data = gzip.compress(encode_idx(np.random.default_rng(1).integers(0, 255, (50, 40), np.uint8)))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptionError, match="damaged or truncated"):
        list(iter_idx(path))


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_lengths_the_file_cannot_hold_are_refused_before_anything_is_allocated(tmp_path: Path, compress: bool) -> None:
    data = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(1000)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(CorruptionError, match=r"expected .* bytes for its shape"):
        read_idx_header(path)


def test_samples_without_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(struct.pack(">BBBB2I", 0, 0, 8, 2, 2**32 - 1, 0))
    with pytest.raises(CorruptionError, match="samples without values"):
        read_idx_header(path)


@given(data=st.data())
def test_mutated_bytes_raise_our_errors_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = encode_idx(np.arange(60, dtype=np.int16).reshape(5, 3, 4))
    mutated = bytearray(gzip.compress(raw, mtime=0) if data.draw(st.booleans()) else raw)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("idx") / "values"
    path.write_bytes(mutated[: data.draw(st.integers(0, len(mutated)))])
    with contextlib.suppress(StockroomError):
        list(iter_idx(path))
