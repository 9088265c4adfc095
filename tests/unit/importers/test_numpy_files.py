import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stockroom.errors import CorruptionError, InvalidInputError, StockroomError
from stockroom.importers import source
from stockroom.importers.numpy_files import NumpyImporter
from stockroom.importers.source import ColumnSource, Importer, ImportSpec


def open_columns(*paths: Path, root: Path | None = None) -> list[Any]:
    return list(NumpyImporter().open(ImportSpec("numpy", paths=paths, root=root)))


def read(column: ColumnSource) -> np.ndarray:
    batches = list(column.batches())
    assert all(batch.dtype == column.dtype and batch.flags.c_contiguous for batch in batches)
    return np.concatenate(batches) if batches else np.empty((0, *column.shape), column.dtype)


def test_it_is_an_importer_of_one_source() -> None:
    assert isinstance(NumpyImporter(), Importer)
    assert NumpyImporter().sources() == ["numpy"]


def test_an_npy_file_becomes_a_column_named_after_it(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    np.save(tmp_path / "scans.npy", values)
    (column,) = open_columns(Path("scans.npy"), root=tmp_path)
    assert (column.name, column.dtype, column.shape, column.count) == ("scans", np.float32, (3, 2), 4)
    np.testing.assert_array_equal(read(column), values)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_member_of_an_npz_file_becomes_a_column(tmp_path: Path, save: object) -> None:
    arrays = {
        "image": np.arange(60, dtype=np.uint8).reshape(5, 3, 4),
        "label": np.arange(5),
        "tilted": np.asfortranarray(np.arange(60.0).reshape(5, 3, 4)),
    }
    save(tmp_path / "set.npz", **arrays)
    columns = open_columns(tmp_path / "set.npz")
    assert [column.name for column in columns] == list(arrays)
    for column in columns:
        np.testing.assert_array_equal(read(column), arrays[column.name])


@given(
    values=npst.arrays(
        st.one_of(
            npst.boolean_dtypes(),
            npst.integer_dtypes(endianness="?"),
            npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
            npst.datetime64_dtypes(endianness="?"),
        ),
        npst.array_shapes(min_dims=1, max_dims=4, max_side=6),
    ),
    fortran=st.booleans(),
    batch_nbytes=st.integers(1, 200),
)
def test_any_numeric_array_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, fortran: bool, batch_nbytes: int
) -> None:
    folder = tmp_path_factory.mktemp("numpy")
    laid_out = np.asfortranarray(values) if fortran else values
    np.save(folder / "a.npy", laid_out)
    np.savez_compressed(folder / "b.npz", b=laid_out)
    native = values.astype(values.dtype.newbyteorder("="))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "BATCH_NBYTES", batch_nbytes)
        for column in open_columns(folder / "a.npy", folder / "b.npz"):
            assert column.dtype.isnative
            assert read(column).tobytes() == native.tobytes()


def test_no_samples_give_an_empty_column(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.empty((0, 3), np.int16))
    np.savez(tmp_path / "set.npz", also_none=np.empty((0, 3), np.int16))
    for column in open_columns(tmp_path / "none.npy", tmp_path / "set.npz"):
        assert (column.shape, column.count) == ((3,), 0)
        assert len(read(column)) == 0


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_large_file_is_streamed(tmp_path: Path, kind: str, order: str) -> None:
    values = np.zeros((2000, 40_000), np.uint8, order)
    if kind == "npy":
        np.save(tmp_path / "set.npy", values)
    else:
        np.savez(tmp_path / "set.npz", set=values)
    total = values.nbytes
    del values
    (column,) = open_columns(tmp_path / f"set.{kind}")
    tracemalloc.start()
    try:
        seen = sum(batch.nbytes for batch in column.batches())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == total
    assert peak < 3 * source.BATCH_NBYTES


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([object(), None]), "dtype object"),
        (np.array([(1, 2.0)], "i4,f8"), "dtype"),
        (np.array([["text"]]), r"shape \(1, 1\)"),
        (np.array(5.0), r"shape \(\)"),
        (np.empty((5, 0)), r"shape \(5, 0\)"),
    ],
    ids=["objects", "records", "text", "0-d", "no values"],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_what_no_column_holds_is_refused_with_what_was_found(
    tmp_path: Path, values: np.ndarray, found: str, kind: str
) -> None:
    if kind == "npy":
        np.save(tmp_path / "odd.npy", values, allow_pickle=True)
    else:
        np.savez(tmp_path / "odd.npz", odd=values)
    with pytest.raises(InvalidInputError, match=f"odd.*expected .*found .*{found}"):
        open_columns(tmp_path / f"odd.{kind}")


def test_files_of_another_kind_and_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="files to import, found none"):
        open_columns()
    with pytest.raises(InvalidInputError, match="expected a name ending in"):
        open_columns(tmp_path / "x.csv")
    with pytest.raises(InvalidInputError, match=r"x\.npy: no such file"):
        open_columns(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"a,b,c\n1,2,3\n")
    with pytest.raises(InvalidInputError, match=r"x\.npy: not an \.npy array"):
        open_columns(tmp_path / "x.npy")
    (tmp_path / "x.npz").write_bytes(b"a,b,c\n1,2,3\n")
    with pytest.raises(CorruptionError, match=r"x\.npz: not a complete \.npz"):
        open_columns(tmp_path / "x.npz")


def test_two_files_may_not_give_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", a=np.arange(3))
    with pytest.raises(InvalidInputError, match=r"b\.npz and .*a\.npy both become column 'a'"):
        open_columns(tmp_path / "a.npy", tmp_path / "b.npz")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_corruption(tmp_path: Path, change: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(CorruptionError, match="expected 168 bytes"):
        open_columns(path)


def test_a_header_that_promises_more_than_the_member_holds_is_corruption(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (1, 10**15)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue() + bytes(100))
    with pytest.raises(CorruptionError, match="expected 8000000000000128 bytes"):
        open_columns(tmp_path / "a.npz")


def test_a_flipped_byte_in_a_member_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(1000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"a\.npz: .*CRC"):
        read(open_columns(path)[0])


@given(data=st.data())
def test_mutated_bytes_raise_our_errors_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("numpy")
    kind = data.draw(st.sampled_from(["npy", "npz"]))
    path = folder / f"a.{kind}"
    values = np.arange(60, dtype=np.int16).reshape(5, 3, 4, order=data.draw(st.sampled_from("CF")))
    np.save(path, values) if kind == "npy" else np.savez_compressed(path, a=values)
    mutated = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(mutated)
    with contextlib.suppress(StockroomError):
        for column in open_columns(path):
            read(column)
