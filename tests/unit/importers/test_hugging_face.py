"""Data sets that the library `datasets` writes, with every feature, from folders and from Parquet files."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stockroom import StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import ImportReport, import_into
from stockroom.importers.source import ImportSpec

COLORS = ["red", "green"]


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, without a network and with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        patch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        yield pytest.importorskip("datasets")


def make_image(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [make_image(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def dataset(hf: Any, photos: list[bytes]) -> Any:
    features = {
        "n": hf.Value("int64"),
        "half": hf.Value("float16"),
        "text": hf.Value("large_string"),
        "raw": hf.Value("binary"),
        "price": hf.Value("decimal128(5, 2)"),
        "clock": hf.Value("time64[us]"),
        "at": hf.Value("timestamp[ns, tz=Europe/Berlin]"),
        "took": hf.Value("duration[us]"),
        "color": hf.ClassLabel(names=COLORS),
        "colors": hf.Sequence(hf.ClassLabel(names=COLORS)),
        "boxes": hf.Sequence({"color": hf.ClassLabel(names=COLORS), "x": hf.Value("float32")}),
        "matrix": hf.Array2D((2, 3), "float32"),
        "vector": hf.Sequence(hf.Value("float32"), length=3),
        "words": hf.Sequence(hf.Value("string")),
        "image": hf.Image(decode=False),
        "images": hf.Sequence(hf.Image(decode=False)),
        "sound": {"bytes": hf.Value("binary"), "path": hf.Value("string")},
        "nested": {"k": hf.Value("string"), "v": hf.Value("int8")},
    }
    matrix = np.arange(6, dtype="f4").reshape(2, 3)
    rows = {
        "n": [1 << 60, None],
        "half": [0.5, 2.0],
        "text": ["ä", None],
        "raw": [b"\x00", b""],
        "price": [Decimal("1.50"), Decimal("-0.25")],
        "clock": [datetime.time(1, 2, 3, 4), None],
        "at": [datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)] * 2,
        "took": [datetime.timedelta(microseconds=5), None],
        "color": [1, 0],
        "colors": [[0, 1], [1]],
        "boxes": [{"color": [1], "x": [0.5]}, {"color": [], "x": []}],
        "matrix": [matrix, matrix + 1],
        "vector": [[1, 2, 3], [4, 5, 6]],
        "words": [["a", "b"], []],
        "image": [{"bytes": photo, "path": f"{number}.png"} for number, photo in enumerate(photos)],
        "images": [[{"bytes": photos[0], "path": None}], []],
        "sound": [{"bytes": b"RIFF", "path": "a.wav"}, {"bytes": b"fLaC", "path": None}],
        "nested": [{"k": "x", "v": 1}, {"k": None, "v": 2}],
    }
    made = hf.Dataset.from_dict(rows, features=hf.Features(features))
    return made.cast_column("sound", hf.Audio(sampling_rate=8000, decode=False))


def bring_in(stock: StockRoom, source: str, path: Path) -> ImportReport:
    with stock.enable_write("table") as writer:
        return import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=(path,))))


@pytest.mark.parametrize("source", ["huggingface", "parquet"])
def test_every_feature_comes_out_equal_or_its_column_is_named(stock, tmp_path, dataset, photos, source):
    path = tmp_path / "set.parquet"
    dataset.save_to_disk(str(path)) if source == "huggingface" else dataset.to_parquet(str(path))
    report = bring_in(stock, source, path)
    (line,) = report.left_out.list_lines()
    assert line.startswith("set.parquet: column 'images': list<")
    found = {name: {key: plain(value) for key, value in column.encoded.items()} for name, column in stock.data.items()}
    assert found == {
        "n": {0: 1 << 60},
        "half": {0: 0.5, 1: 2.0},
        "text": {0: "ä"},
        "raw": {0: b"\x00", 1: b""},
        "price": {0: "1.50", 1: "-0.25"},
        "clock": {0: np.timedelta64(3_723_000_004, "us")},
        "at": {0: np.datetime64("2026-07-01", "ns"), 1: np.datetime64("2026-07-01", "ns")},
        "took": {0: np.timedelta64(5, "us")},
        "color": {0: 1, 1: 0},
        "colors": {0: [0, 1], 1: [1]},
        "boxes": {0: '{"color": [1], "x": [0.5]}', 1: '{"color": [], "x": []}'},
        "matrix": {0: [[0, 1, 2], [3, 4, 5]], 1: [[1, 2, 3], [4, 5, 6]]},
        "vector": {0: [1, 2, 3], 1: [4, 5, 6]},
        "words": {0: '["a", "b"]', 1: "[]"},
        "image": dict(enumerate(photos)),
        "image-path": {0: "0.png", 1: "1.png"},
        "sound": {0: b"RIFF", 1: b"fLaC"},
        "sound-path": {0: "a.wav"},
        "nested": {0: '{"k": "x", "v": 1}', 1: '{"k": null, "v": 2}'},
    }
    attrs = {name: dict(column.attrs) for name, column in stock.data.items()}
    assert attrs["color"] == attrs["colors"] == {"classes": COLORS}
    assert (attrs["price"], attrs["clock"]) == ({"arrow_type": "decimal128(5, 2)"}, {"arrow_type": "time64[us]"})
    assert (attrs["at"], attrs["sound"]["feature"]["sampling_rate"]) == ({"timezone": "Europe/Berlin"}, 8000)
    assert find_names(attrs["boxes"]["feature"]) == COLORS
    assert (stock.data["image"].decoder, stock.data["sound"].decoder) == ("image", None)
    assert stock.data["matrix"].shape == (2, 3)


def plain(value: Any) -> Any:
    return value if isinstance(value, str | bytes) or value.dtype.kind in "mM" else value.tolist()


def find_names(feature: Any) -> Any:
    if isinstance(feature, dict):
        return feature.get("names") or next(filter(None, map(find_names, feature.values())), None)
    return None


def test_many_class_names_are_a_column(stock, hf, tmp_path):
    names = [f"class number {number}" for number in range(5000)]
    features = hf.Features({"label": hf.ClassLabel(names=names)})
    hf.DatasetDict({"train": hf.Dataset.from_dict({"label": [4999, 7]}, features=features)}).save_to_disk(
        tmp_path / "set"
    )
    report = bring_in(stock, "huggingface", tmp_path / "set")
    assert report.columns == ("train-label", "train-label-classes")
    assert stock.data["train-label"].attrs == {"classes_column": "train-label-classes"}
    assert stock.data["train-label-classes"][4999] == "class number 4999"


def test_a_data_set_in_memory_gives_its_rows_and_class_names(stock, hf, dataset, photos):
    rows = dataset.select_columns(["n", "color", "at", "took", "image", "boxes"]).remove_columns("at")
    with stock.enable_write("rows") as writer:
        names = writer.data.import_from(rows.cast_column("image", hf.Image()))
    assert set(names) == {"n", "color", "took", "image", "boxes.color", "boxes.x"}
    assert stock.data["color"].attrs == {"classes": COLORS}
    for key, photo in enumerate(photos):
        np.testing.assert_array_equal(stock.data["image"][key], np.array(Image.open(io.BytesIO(photo))))
