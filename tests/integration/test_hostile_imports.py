"""Files that come from strangers, imported: nothing in them is executed, and their claims are bounded."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.kit.hostile import Hostile

from stockroom import CorruptionError, InvalidInputError, StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec


def bring_in(stock: StockRoom, source: str, *paths: Path) -> None:
    with stock.enable_write("import") as writer:
        import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=paths)))


@pytest.fixture
def stock(tmp_path: Path) -> StockRoom:
    return StockRoom.init(tmp_path / "repository")


# -- nothing is executed


def write_npy(folder: Path, hostile: Hostile) -> Path:
    np.save(folder / "a.npy", np.array([hostile], object), allow_pickle=True)
    return folder / "a.npy"


def write_npz(folder: Path, hostile: Hostile) -> Path:
    np.savez(folder / "a.npz", x=np.array([hostile], object))
    return folder / "a.npz"


def write_tar(folder: Path, hostile: Hostile) -> Path:
    content = write_npy(folder, hostile).read_bytes()
    with tarfile.open(folder / "a.tar", "w") as archive:
        member = tarfile.TarInfo("0.npy")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return folder / "a.tar"


def name_types(hostile: Hostile) -> dict[bytes, bytes]:
    """Metadata by which old versions of pyarrow unpickled the class of an extension type."""
    return {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(hostile),
    }


def write_parquet(folder: Path, hostile: Hostile) -> Path:
    schema = pa.schema([pa.field("x", pa.int64(), metadata=name_types(hostile))])
    parquet.write_table(pa.table({"x": [1]}, schema), folder / "a.parquet")
    return folder / "a.parquet"


def write_hugging_face(folder: Path, hostile: Hostile) -> Path:
    schema = pa.schema([pa.field("x", pa.int64(), metadata=name_types(hostile))])
    with pa.ipc.new_stream(str(folder / "data.arrow"), schema) as stream:
        stream.write_table(pa.table({"x": [1]}, schema))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("numpy", write_npy),
        ("numpy", write_npz),
        ("webdataset", write_tar),
        ("parquet", write_parquet),
        ("huggingface", write_hugging_face),
    ],
)
def test_no_importer_unpickles_what_a_file_brings(
    stock: StockRoom, tmp_path: Path, source: str, write: Callable[[Path, Hostile], Path]
) -> None:
    (tmp_path / "foreign").mkdir()
    path = write(tmp_path / "foreign", Hostile(tmp_path / "mark"))
    try:
        bring_in(stock, source, path)
    except (InvalidInputError, CorruptionError):
        pass
    else:
        assert source in ("parquet", "huggingface")  # whose type is not known, and whose numbers are read without it
    assert not (tmp_path / "mark").exists()


def test_the_codec_of_a_pack_is_one_of_ours_whatever_its_zarr_json_says(stock: StockRoom) -> None:
    with stock.enable_write("x") as writer:
        writer.data["x"] = np.arange(4000).reshape(40, 100)
    stock.close()
    documents = list((stock.path / ".stockroom" / "packs").rglob("zarr.json"))
    assert documents
    for document in documents:
        content = json.loads(document.read_bytes())
        content["codecs"][0]["configuration"]["codecs"].append({"name": "runs.code"})
        document.chmod(0o644)
        document.write_text(json.dumps(content))
    with StockRoom(stock.path) as again:
        np.testing.assert_array_equal(again.data["x"], np.arange(4000).reshape(40, 100))
