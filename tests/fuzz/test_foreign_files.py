"""Files of other people's, under mutation: whatever a library raises over them, the user sees an error of ours.

What once came through has a test of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.foreign_files import FILES, MODEL
from tests.fuzz.test_every_decoder import mutations

from stockroom import CorruptionError, InvalidInputError, SchemaError, StockRoom, StockroomError
from stockroom.importers.registry import ENTRY_POINT_GROUP, resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec
from stockroom.importers.streams import translate_read_errors
from stockroom.interop import read_model_file


def bring_in(stock: StockRoom, name: str, folder: Path, given: dict[str, Any]) -> None:
    source = FILES[name][0]
    paths = tuple(Path(path) for path in given.get("paths", ()))
    with stock.enable_write("foreign") as writer:
        if source == MODEL:
            writer.model["m"] = read_model_file(folder / paths[0]).state
        else:
            import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=paths, root=folder)))


def write_sound(name: str, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    return FILES[name][1](folder)


def test_every_importer_has_files_here() -> None:
    assert {source.partition(".")[0] for source, _ in FILES.values()} == {
        MODEL,
        *(each.name for each in entry_points(group=ENTRY_POINT_GROUP) if each.module.startswith("stockroom.")),
    }


@pytest.mark.parametrize("name", FILES)
def test_sound_files_come_in(stock: StockRoom, tmp_path: Path, name: str) -> None:
    bring_in(stock, name, tmp_path / "sound", write_sound(name, tmp_path / "sound"))


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=int(os.environ.get("STOCKROOM_EXAMPLES", "12")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_files_come_in_or_are_refused_by_our_own_errors(
    stock: StockRoom, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    folder = tmp_path / "foreign"
    shutil.rmtree(folder, ignore_errors=True)
    given = write_sound(name, folder)
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    path.write_bytes(data.draw(mutations([path.read_bytes()])))
    with contextlib.suppress(StockroomError):
        bring_in(stock, name, folder, given)


# -- what once came through


def refuse(stock: StockRoom, tmp_path: Path, name: str, old: bytes, new: bytes, *, file: str, message: str) -> None:
    """Bring in sound files but for `new` in place of `old`."""
    given = write_sound(name, tmp_path / "foreign")
    path = tmp_path / "foreign" / file
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(CorruptionError, match=message):
        bring_in(stock, name, tmp_path / "foreign", given)


def test_the_name_of_a_parquet_column_that_is_no_utf8_is_corruption(stock: StockRoom, tmp_path: Path) -> None:
    # Byte 772 of the file set to 128, as a fresh clone's test run found: the name of the column `v`.
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(50)), "v": [[n, n] for n in range(50)]}), path)
    data = path.read_bytes()
    assert data.count(b"\x18\x01v\x15") == 1
    path.write_bytes(data.replace(b"\x18\x01v\x15", b"\x18\x01\x80\x15"))
    with pytest.raises(CorruptionError, match=r"a\.parquet: incomplete or damaged: .*codec can't decode"):
        bring_in(stock, "parquet", tmp_path, {"paths": ("a.parquet",)})


def test_a_parquet_cell_that_is_no_utf8_is_corruption(stock: StockRoom, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a", "b\u00e4"]}), tmp_path / "a.parquet", use_dictionary=False, write_statistics=False
    )
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data.replace("\u00e4".encode(), b"\xff\xff"))
    with pytest.raises(CorruptionError, match=r"a\.parquet: incomplete or damaged: .*codec can't decode"):
        bring_in(stock, "parquet", tmp_path, {"paths": ("a.parquet",)})


OFFSETS = np.array([0, 2, 2, 2, 4], "i4").tobytes()  # of the binary column's first batch: b"12", b"", None, b"12"


@pytest.mark.parametrize(
    "offsets", [[0, 1 << 30, 2, 2, 4], [0, 2, 1, 2, 4], [-9, 2, 2, 2, 4]], ids=["far", "back", "minus"]
)
def test_offsets_that_leave_an_arrow_file_are_refused_before_they_are_followed(
    stock: StockRoom, tmp_path: Path, offsets: list[int]
) -> None:
    # pyarrow follows them, and the process ends with a segmentation fault.
    new = np.array(offsets, "i4").tobytes()
    file = "train/0.arrow"
    refuse(stock, tmp_path, "huggingface", OFFSETS, new, file=file, message=r"0\.arrow: incomplete or damaged")


def test_a_cell_of_an_arrow_file_that_is_no_utf8_is_corruption(stock: StockRoom, tmp_path: Path) -> None:
    old, new = "ab\u00e4a".encode(), b"ab\xff\xffa"
    message = r"0\.arrow: incomplete or damaged: .*UTF"
    refuse(stock, tmp_path, "huggingface", old, new, file="train/0.arrow", message=message)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset_dict.json", {"splits": 5}),
        ("dataset_dict.json", {"splits": ["\ud800"]}),
        ("train/state.json", {"_data_files": {"a": 1}}),
        ("train/dataset_info.json", {"features": [1]}),
    ],
)
def test_json_of_another_form_in_a_saved_data_set_is_corruption(
    stock: StockRoom, tmp_path: Path, file: str, content: dict[str, Any]
) -> None:
    given = write_sound("huggingface", tmp_path / "foreign")
    (tmp_path / "foreign" / file).write_text(json.dumps(content))
    with pytest.raises(CorruptionError):
        bring_in(stock, "huggingface", tmp_path / "foreign", given)


def test_arrow_files_of_other_columns_are_named(stock: StockRoom, tmp_path: Path) -> None:
    given = write_sound("huggingface", tmp_path / "foreign")
    split = tmp_path / "foreign" / "train"
    other = pa.table({"other": [1]})
    with pa.OSFile(str(split / "1.arrow"), "wb") as file, pa.ipc.new_stream(file, other.schema) as stream:
        stream.write_table(other)
    (split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "0.arrow"}, {"filename": "1.arrow"}]}))
    with pytest.raises(InvalidInputError, match=r"1\.arrow: expected the columns of .*0\.arrow, found others"):
        bring_in(stock, "huggingface", tmp_path / "foreign", given)


def test_a_blosc_block_of_a_negative_size_is_corruption(stock: StockRoom, tmp_path: Path) -> None:
    # numcodecs then raises a SystemError.
    values = np.arange(4, dtype=">i4")
    zarr.create_array(
        tmp_path / "a.zarr", data=values, chunks=(4,), zarr_format=2, compressors=numcodecs.Blosc(shuffle=0)
    )
    path = tmp_path / "a.zarr" / "0"
    head = bytearray(path.read_bytes())
    head[4:8] = b"\xff" * 4  # bytes of what it holds
    path.write_bytes(head)
    with pytest.raises(CorruptionError, match=r"a\.zarr.*expected a chunk of 16 bytes"):
        bring_in(stock, "zarr 2", tmp_path, {"paths": ("a.zarr",)})


def test_zarr_chunks_of_no_rows_are_corruption(stock: StockRoom, tmp_path: Path) -> None:
    given = write_sound("zarr 2", tmp_path / "foreign")
    path = tmp_path / "foreign" / "a.zarr" / "when" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chunks": [0]}))
    with pytest.raises(CorruptionError, match=r"a\.zarr: cannot be read as Zarr"):
        bring_in(stock, "zarr 2", tmp_path / "foreign", given)


def test_a_dtype_that_is_no_text_in_a_safetensors_file_is_corruption(stock: StockRoom, tmp_path: Path) -> None:
    message = "expected dtype, shape and data_offsets"
    refuse(stock, tmp_path, "safetensors", b'"F16"', b"[   ]", file="a.safetensors", message=message)


# -- the one place where libraries' errors become ours


class Unforeseen(Exception):
    """An error that no list of classes has."""


def test_errors_of_any_class_become_corruption_that_names_the_file() -> None:
    for error in (
        Unforeseen("what\nis this"),
        SystemError("odd"),
        OSError("no number"),
        UnicodeDecodeError("u", b"", 0, 1, ""),
    ):
        with (
            pytest.raises(CorruptionError, match=r"^a/b: torn: ") as caught,
            translate_read_errors(Path("a/b"), "torn"),
        ):
            raise error
        assert caught.value.__cause__ is error
        assert caught.value.where == "a/b"
        assert "\n" not in str(caught.value)


def test_errors_that_tell_of_this_machine_are_not_called_damage(tmp_path: Path) -> None:
    for error in (PermissionError(13, "Permission denied"), MemoryError(), FileNotFoundError(2, "No such file")):
        with pytest.raises(InvalidInputError, match=r"^a: (cannot be read|no such file)"), translate_read_errors("a"):
            raise error


def test_errors_of_ours_and_interrupts_pass() -> None:
    for error in (SchemaError("ours"), KeyboardInterrupt(), GeneratorExit()):
        with pytest.raises(type(error)) as caught, translate_read_errors("a"):
            raise error
        assert caught.value is error
