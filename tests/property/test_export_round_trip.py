"""What a column holds comes out equal in the exported file, as the format's own library reads it, and equal again when
it is imported here; or the export is refused by an error that names the column.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stockroom import InvalidInputError, StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec
from stockroom.shelves.export.file_names import parse_file_name
from stockroom.shelves.export.folders import LIST_NAME
from stockroom.store.dtypes import EXTENSION_NAMES, STORAGE_NAMES, parse_dtype
from stockroom.store.wide_floats import is_extension, narrow

DATES = ["datetime64[s]", "datetime64[D]", "datetime64[us]", "timedelta64[ms]", "timedelta64[D]", "datetime64[25s]"]
DTYPES = sorted({*STORAGE_NAMES, *EXTENSION_NAMES, "float8_e4m3", *DATES, "str", "bytes"})
SHAPES: list[tuple[int | None, ...]] = [
    (), (1,), (3,), (2, 3), (4, 5, 3), (0,), (2, 0), (0, 2), (None,), (None, 2), (2, None), (None, None)
]  # fmt: skip
NAMES = ["x", "key", "keys", "Key", "KEYS", "key_", "keys.npy", "image.png", "a/b", "zarr.json", "stockroom", "c", "é"]
TEXT = st.text(st.characters() | st.sampled_from("\x00\ud800/.%~A a"), max_size=6) | st.just("k" * 300)
KEYS = {
    "numbers": st.none(),
    "int": st.integers(-(1 << 63), (1 << 63) - 1),
    "str": TEXT,
    "tuple": st.tuples(TEXT, st.integers(-9, 9)),
}
ATTRS: list[dict[str, Any]] = [
    {}, {"unit": "mV"}, {"classes": ["cat", "dog"]}, {"stockroom": 1, "keys": [1], "dtype": "x", "key": None}
]  # fmt: skip
SOURCES = {".npy": "numpy", ".npz": "numpy", ".parquet": "parquet", ".zarr": "zarr", ".tar": "webdataset", "": None}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def stock(place):
    StockRoom.init(place / "room").close()
    with StockRoom(place / "room", enable_write=True) as stock:
        yield stock
        stock.reset()


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    """The content of a column: schema, attrs, and samples by key, of random bits."""
    dtype = draw(st.sampled_from(DTYPES))
    is_text = dtype in ("str", "bytes")
    shape = (None,) if is_text else draw(st.sampled_from(SHAPES))
    kind = draw(st.sampled_from(sorted(KEYS)))
    count = draw(st.integers(0, 3))
    keys = range(count) if kind == "numbers" else draw(st.lists(KEYS[kind], unique=True, max_size=3))
    if dtype == "str":
        samples: Any = [draw(TEXT) for _ in keys]
    elif dtype == "bytes":
        samples = [draw(st.binary(max_size=4)) for _ in keys]
    else:
        samples = [draw_array(draw, dtype, shape) for _ in keys]
    return {
        "dtype": dtype,
        "shape": () if is_text else shape,
        "keys": "int" if kind in ("numbers", "int") else "str",
        "attrs": draw(st.sampled_from(ATTRS)),
        "samples": dict(zip(keys, samples, strict=True)),
    }


def draw_array(draw: st.DrawFn, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
    lengths = [draw(st.integers(0, 3)) if length is None else length for length in shape]
    nbytes = parse_dtype(dtype).itemsize * int(np.prod(lengths))
    bits = draw(st.binary(min_size=min(nbytes, 8), max_size=min(nbytes, 8)))
    data = bytearray(itertools.islice(itertools.cycle(bits), nbytes))
    if dtype == "bool":
        data = bytearray(byte & 1 for byte in data)
    return np.frombuffer(data, parse_dtype(dtype)).reshape(lengths)


def fill(stock: StockRoom, name: str, content: dict[str, Any]) -> Any:
    for old in list(stock.data):
        del stock.data[old]
    column = stock.data.create(name, **{key: value for key, value in content.items() if key != "samples"})
    column.update(content["samples"])
    return column


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, str | bytes):
        assert found == expected
        return
    found = np.asarray(found)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@settings(max_examples=int(os.environ.get("STOCKROOM_EXAMPLES", "80")))
@given(columns(), st.sampled_from(NAMES), st.sampled_from(sorted(SOURCES)))
def test_every_column_comes_out_and_back_equal_or_is_refused_by_name(stock, place, content, name, ending):
    column = fill(stock, name, content)
    keys, samples = list(column), list(column.values())
    target = place / f"out{ending}"
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    left_out: list[str] = []
    refusal = find_refusal(lambda: column.export(target, on_left_out=left_out.append))
    if refusal is not None:
        assert f"column {name!r}" in refusal
        assert not target.exists()
        return
    holds_attrs = ending in (".parquet", ".zarr")
    assert (holds_attrs or not content["attrs"]) != any("attrs" in line for line in left_out)
    for row, sample in enumerate(READERS[ending](target, name, keys, content)):
        assert_same(sample, samples[row])
    if SOURCES[ending] is not None:
        check_imported(stock, SOURCES[ending], target, name, content, left_out)


def find_refusal(call: Callable[[], object]) -> str | None:
    try:
        call()
    except InvalidInputError as error:
        return str(error)
    return None


def check_imported(stock, source, target, name, content, left_out):
    expected = dict(stock.data[name].items())
    if target.suffix == ".tar" and not expected:
        assert any("the schema" in line for line in left_out)
        return
    importer = resolve_importer(source)
    refusal = find_refusal(lambda: import_into(stock, importer.open(ImportSpec(source, paths=(target,)))))
    if refusal is not None:
        assert target.suffix == ".npy"
        assert f"{target}: expected samples that hold values" in refusal
        return
    back = stock.data[target.stem if target.suffix == ".npy" else name]
    assert back.dtype == (content["dtype"] if content["dtype"] in ("str", "bytes") else parse_dtype(content["dtype"]))
    assert back.shape == content["shape"]
    if target.suffix == ".npy":
        assert any("the keys" in line for line in left_out) == (list(expected) != list(range(len(expected))))
        expected = dict(enumerate(expected.values()))
    else:
        assert back.key_type == content["keys"]
    assert list(back) == list(expected)
    for key, sample in expected.items():
        assert_same(back[key], sample)
    assert back.attrs == (content["attrs"] if target.suffix in (".parquet", ".zarr") else {})


# -- samples as the libraries of the formats read them


def read_npy(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    return restore(np.load(target), content)


def read_npz(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    with np.load(target, allow_pickle=False) as loaded, zipfile.ZipFile(target) as archive:
        record = json.loads(archive.comment)["stockroom"]
        if record["keys"] is not None:
            stored = loaded[record["keys"]].tolist()
            assert stored == [format_key(key) for key in keys]
        if record["array"] is not None:
            assert record["array"] == name
            return restore(loaded[name], content)
        arrays = [loaded[each] for each in loaded if each != record["keys"]]
        return [array.tobytes() if content["dtype"] == "bytes" else restore(array, content) for array in arrays]


def read_parquet(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    table = pq.read_table(target)
    key_name = table.column_names[0]
    assert key_name.casefold() != name.casefold()
    assert table.column_names[1] == name
    assert table[key_name].to_pylist() == [format_key(key) for key in keys]
    if content["dtype"] in ("str", "bytes"):
        return table[name].to_pylist()
    return [read_cell(value, parse_dtype(content["dtype"]), content["shape"]) for value in table[name]]


def read_cell(value: Any, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> np.ndarray:
    """Return one cell as an array, without Python's numbers, which would drop the bits of a NaN."""
    array, lengths = pa.array([value]), []
    for length in shape:
        sizes = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        lengths.append(int(sizes[0]) if len(sizes) else length or 0)
        array = array.flatten()
    values = array.to_numpy(zero_copy_only=False)
    return (narrow(values, dtype) if is_extension(dtype) else values.astype(dtype)).reshape(lengths)


def read_zarr(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    node = zarr.open(target, mode="r")
    record = node.attrs["stockroom"]
    if isinstance(node, zarr.Group):
        if record["sample_keys"] is not None:
            assert record["sample_keys"] == [format_key(key) for key in keys]
            return [restore(np.asarray(array[...]), content) for array in order_arrays(node, keys)]
        if content["keys"] == "int":
            assert node[record["keys"]][:].tolist() == keys
        else:
            assert node.attrs[record["keys"]] == [list(key) if isinstance(key, tuple) else key for key in keys]
        node = node[record["array"]]
    return restore(node[:], content)


def order_arrays(node: Any, keys: list[Any]) -> list[Any]:
    from stockroom.shelves.export.export_record import choose_array_names
    from stockroom.shelves.export.file_names import name_file

    return [node[each] for each in choose_array_names([name_file(format_key(key), keeps_dots=False) for key in keys])]


def read_tar(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    rows = []
    with tarfile.open(target) as archive:
        for member, key in zip(archive, keys, strict=True):
            base, _, ending = member.name.partition(".")
            header = member.pax_headers.get("STOCKROOM.key")
            text = parse_file_name(base) if header is None else json.loads(header)
            assert text == str(format_key(key))
            data = archive.extractfile(member).read()
            rows.append(read_file(data, ending, content))
    return rows


def read_folder(target: Path, name: str, keys: list[Any], content: dict[str, Any]) -> Any:
    files = {file.name: file.read_bytes() for file in target.iterdir() if file.name != LIST_NAME}
    assert len(files) == len(keys)
    return []


def read_file(data: bytes, ending: str, content: dict[str, Any]) -> Any:
    if ending == "txt":
        return data.decode("utf-8", "surrogatepass")
    if ending == "bin":
        return data
    if ending == "cls":
        return np.array(int(data), content["dtype"])
    if ending == "png":
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)
    return restore(np.load(io.BytesIO(data), allow_pickle=False), content)


def restore(values: Any, content: dict[str, Any]) -> Any:
    """Return values in their dtype, from the one that stands for it in files of a format that lacks it."""
    if content["dtype"] == "str":
        return values.tolist()
    dtype = parse_dtype(content["dtype"])
    if not is_extension(dtype):
        return values
    assert values.dtype == np.float32 or values.dtype.kind == "V"  # never integers
    return narrow(values, dtype) if values.dtype == np.float32 else values.view(dtype)


def format_key(key: Any) -> Any:
    return json.dumps(key, ensure_ascii=False, separators=(",", ":")) if isinstance(key, tuple) else key


READERS: dict[str, Any] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".parquet": read_parquet,
    ".zarr": read_zarr,
    ".tar": read_tar,
    "": read_folder,
}
