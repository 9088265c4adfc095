"""Exports that strangers have changed: their records are read as such, refused by name, or ignored."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stockroom import InvalidInputError, StockRoom, StockroomError
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec

SOURCES = {".npz": "numpy", ".parquet": "parquet", ".zarr": "zarr", ".tar": "webdataset"}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockRoom]:
    with StockRoom.init(tmp_path_factory.mktemp("from")) as stock:
        with stock.enable_write("two") as writer:
            writer.data["x"] = {"a": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
            writer.data["open"] = [np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)]
        yield stock


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockRoom]:
    folder = tmp_path_factory.mktemp("to")
    StockRoom.init(folder).close()
    with StockRoom(folder, enable_write=True) as stock:
        yield stock
        stock.reset()


def bring_back(stock: StockRoom, *paths: Path) -> None:
    name = SOURCES[paths[0].suffix]
    import_into(stock, resolve_importer(name).open(ImportSpec(name, paths=paths)))


HOSTILE = {
    "version": 2,
    "column": "../x",
    "dtype": "object",
    "shape": [1 << 62],
    "key_type": "int",
    "array": "no such",
    "keys": "no such",
    "decoder": "pickle",
    "sample_keys": ["a", "a"],
}


@pytest.mark.parametrize("field", HOSTILE)
@pytest.mark.parametrize("ending", [".npz", ".zarr"])
def test_a_changed_record_is_refused_by_name_or_ignored(
    stock: StockRoom, target: StockRoom, tmp_path: Path, field: str, ending: str
) -> None:
    path = tmp_path / f"a{ending}"
    stock.data["x"].export(path)
    if ending == ".npz":
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = change(archive.comment, field)
    else:
        (path / "zarr.json").write_bytes(change((path / "zarr.json").read_bytes(), field))
    with suppress(StockroomError):  # and no other error
        bring_back(target, path)


def change(document: bytes, field: str) -> bytes:
    content = json.loads(document)
    record = content["stockroom"] if "stockroom" in content else content["attributes"]["stockroom"]
    record[field] = HOSTILE[field]
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"stockroom.shape": "[3]"}, "column 'x': expected samples of shape"),
        ({"stockroom.shape": "{"}, "column 'x': expected shape in JSON"),
        ({"stockroom.attrs": "[]"}, "column 'x': expected attrs as a dict"),
        ({"stockroom.dtype": "object"}, "object"),
        ({"stockroom.dtype": "int8"}, "column 'x': expected values of int8"),
    ],
)
def test_changed_metadata_of_parquet_is_refused(
    stock: StockRoom, target: StockRoom, tmp_path: Path, metadata: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.parquet"
    stock.data["x"].export(path)
    table = pq.read_table(path)
    field = table.schema.field(1)
    changed = {**{key.decode(): value.decode() for key, value in field.metadata.items()}, **metadata}
    pq.write_table(table.cast(pa.schema([table.schema.field(0), field.with_metadata(changed)])), path)
    with pytest.raises(InvalidInputError, match=message):
        bring_back(target, path)


def test_a_key_that_occurs_twice_is_refused(stock: StockRoom, target: StockRoom, tmp_path: Path) -> None:
    stock.data["open"].export(tmp_path / "a.parquet")
    stock.data["open"].export(tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match="column 'open': expected 4 distinct keys, found 2"):
        bring_back(target, tmp_path / "a.parquet", tmp_path / "b.parquet")


def test_exports_of_two_columns_are_imported_together(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "room") as other, other.enable_write("two") as writer:
        writer.data["x"], writer.data["y"] = {"a": 1.0}, [2, 3]
        for name in ("x", "y"):
            writer.data[name].export(tmp_path / f"{name}.npz")
        np.save(tmp_path / "z.npy", np.arange(3))
        paths = tuple(tmp_path / name for name in ("x.npz", "y.npz", "z.npy"))
        import_into(writer, resolve_importer("numpy").open(ImportSpec("numpy", paths=paths)))
        assert {name: list(writer.data[name].items()) for name in writer.data} == {
            "x": [("a", 1.0)],
            "y": [(0, 2), (1, 3)],
            "z": [(0, 0), (1, 1), (2, 2)],
        }
        np.save(tmp_path / "x.npy", np.arange(3))
        with pytest.raises(InvalidInputError, match="two of the files become column 'x'"):
            resolve_importer("numpy").open(ImportSpec("numpy", paths=(tmp_path / "x.npz", tmp_path / "x.npy")))
