"""Arrays beside each other: those that a column holds come in, and the others are left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import zarr

from stockroom import CorruptionError, InvalidInputError, StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import ImportReport, import_into
from stockroom.importers.source import ImportSpec


def bring_in(stock: StockRoom, source: str, *paths: Path) -> ImportReport:
    with stock.enable_write("arrays") as writer:
        return import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=paths)))


def list_kinds(report: ImportReport) -> dict[str, int]:
    return {kind: count for (_, kind), count in report.left_out.counts.items()}


TEXTS = np.array(["a", "bä", "", "c\U0001f600"])
BYTES = np.array([b"1", b"\x002", b"", b"abc"])


def test_an_npz_file_with_arrays_of_every_kind(stock: StockRoom, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "x y": np.arange(2),
        "when": np.arange(4).astype("M8[us]"),
        "tilted": np.asfortranarray(np.arange(24).reshape(4, 3, 2)).astype(">i4"),
        "none": np.empty((0, 3)),
    }
    others: dict[str, Any] = {
        "lr": np.float32(0.1),
        "note": np.array("text"),
        "grid": np.array([["a", "b"]]),
        "record": np.array([(1, 2.0)], "i4,f8"),
        "objects": np.array([None, {}]),
        "wide": np.ones(3, np.longdouble),
        "flat": np.empty((3, 0)),
        "days": np.array([1, 2], "m8"),
    }
    np.savez(tmp_path / "a.npz", text=TEXTS, raw=BYTES, **arrays, **others)
    report = bring_in(stock, "numpy", tmp_path / "a.npz")
    assert report.columns == ("text", "raw", "x_y", "when", "tilted", "none")
    for name, values in arrays.items():
        np.testing.assert_array_equal(stock.data[name.replace(" ", "_")], values)
    assert list(stock.data["text"].values()) == TEXTS.tolist()
    assert list(stock.data["raw"].values()) == BYTES.tolist()
    assert list_kinds(report) == {
        "single value": 2,
        "multi-axis text array": 1,
        "structured array": 1,
        "object array": 1,
        f"{np.dtype(np.longdouble).name} array": 1,
        "zero-length array": 1,
        "timedelta64 array": 1,
    }


def test_a_file_with_nothing_else_says_why_no_column_holds_it(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.float64(3))
    np.savez(tmp_path / "two.npz", a=np.float64(3), b=np.array([None]))
    importer = resolve_importer("numpy")
    with pytest.raises(InvalidInputError, match=r"one\.npy: expected samples .*, found a single value of shape \(\)$"):
        importer.open(ImportSpec("numpy", paths=(tmp_path / "one.npy",)))
    with pytest.raises(InvalidInputError, match=r"two\.npz:a\.npy: .* \(and 1 more that no column holds\)$"):
        importer.open(ImportSpec("numpy", paths=(tmp_path / "two.npz",)))


@pytest.mark.filterwarnings("ignore:The data type")  # zarr, of text in version 3
@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_group_keeps_what_describes_its_arrays(stock: StockRoom, tmp_path: Path, version: int) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)  # type: ignore[arg-type]
    group.attrs.update({"title": "Waves", "axes": ["t"]})
    deep = group.create_group("deep", attributes={"title": "Deep waves"})
    named = {"dimension_names": ("t", None)} if version == 3 else {}
    group.create_array("mean", data=np.array(2.0))
    group.create_array("plain", data=np.arange(3))
    group.create_array("record", shape=(2,), dtype=[("a", "i4")])
    deep.create_array(
        "wave",
        data=np.ones((2, 2)),
        fill_value=np.nan,
        attributes={"units": "m", "scale": 0.5, "vast": "x" * (1 << 16), "odd": float("nan")},
        **named,  # type: ignore[arg-type]
    )
    text = group.create_array("text", shape=(4,), dtype=str, chunks=(3,), attributes={"group": "mine"})
    text[:] = TEXTS.astype(object)
    group.create_array("fixed", data=TEXTS)
    group.create_array("raw", data=BYTES)
    report = bring_in(stock, "zarr", tmp_path / "a.zarr")
    assert set(report.columns) == {"plain", "deep_wave", "text", "fixed", "raw"}
    around = {"title": "Waves", "axes": ["t"]}
    assert stock.data["plain"].attrs == {"group": around}
    assert stock.data["text"].attrs == {"group": "mine"}
    assert stock.data["deep_wave"].attrs == {
        "units": "m",
        "scale": 0.5,
        "fill_value": "NaN",
        "group": around | {"title": "Deep waves"},
        **({"dimension_names": ["t", None]} if version == 3 else {}),
    }
    for name in ("text", "fixed"):
        assert list(stock.data[name].values()) == TEXTS.tolist()
    assert list(stock.data["raw"].values()) == BYTES.tolist()
    assert list_kinds(report) == {
        "single value": 1,
        "structured array": 1,
        "large attribute": 1,
        "non-JSON attribute": 1,
        "hidden attribute": 2,
    }


def test_long_text_is_not_taken_for_a_bomb(stock: StockRoom, tmp_path: Path) -> None:
    texts = ["x" * 5000] * 600
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("text", shape=(600,), dtype=str, chunks=(600,))[:] = np.array(texts, object)
    bring_in(stock, "zarr", tmp_path / "a.zarr")
    assert list(stock.data["text"].values()) == texts


def test_the_metadata_of_a_safetensors_file_is_kept_and_single_values_are_left_out(
    stock: StockRoom, tmp_path: Path
) -> None:
    tensors = {"x": np.arange(3), "scale": np.array(2.0)}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    report = bring_in(stock, "safetensors", tmp_path / "a.safetensors")
    assert (report.columns, list_kinds(report)) == (("x",), {"single value": 1})
    assert stock.data["x"].attrs == {"metadata": {"format": "pt"}}


def forge(path: Path, header: object, nbytes: int) -> Path:
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(nbytes))
    return path


def test_tensors_of_a_dtype_that_no_column_has_are_left_out(stock: StockRoom, tmp_path: Path) -> None:
    header = {
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "half": {"dtype": "F4", "shape": [4], "data_offsets": [8, 10]},
    }
    report = bring_in(stock, "safetensors", forge(tmp_path / "a.safetensors", header, 10))
    assert (report.columns, list_kinds(report)) == (("x",), {"F4 tensor": 1})


@pytest.mark.parametrize(
    ("spans", "nbytes"),
    [([(0, 4)], 3), ([(0, 4)], 5), ([(0, 4), (5, 9)], 9), ([(0, 4), (0, 4)], 4), ([(4, 8)], 8)],
    ids=["cut", "longer", "gap", "overlap", "late"],
)
def test_bytes_that_belong_to_no_tensor_are_damage(tmp_path: Path, spans: list[tuple[int, int]], nbytes: int) -> None:
    header = {f"{n}": {"dtype": "I32", "shape": [1], "data_offsets": [*span]} for n, span in enumerate(spans)}
    path = forge(tmp_path / "a.safetensors", header, nbytes)
    with pytest.raises(CorruptionError, match="shape, offsets and file length do not agree"):
        resolve_importer("safetensors").open(ImportSpec("safetensors", paths=(path,)))
