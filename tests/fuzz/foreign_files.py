"""Sound files of each kind that is read from elsewhere, for `test_foreign_files.py` to damage."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
import zarr
from PIL import Image

MODEL = "model file"
PIXELS = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)


def _encode_image(kind: str, image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _encode_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _make_table() -> pa.Table:
    return pa.table(
        {
            "n": list(range(9)),
            "x": [0.5, None, 2.0] * 3,
            "text": ["a", "bä", ""] * 3,
            "word": pa.array(["cat", "dog", "cat"] * 3).dictionary_encode(),
            "when": pa.array(np.arange(9), pa.timestamp("ms", "Europe/Berlin")),
            "day": pa.array(np.arange(9, dtype="i4"), pa.date32()),
            "price": pa.array([None, 1, 2] * 3, pa.decimal128(5, 2)),
            "lists": [[[1, 2], [3, 4]], [[5, 6]], []] * 3,
            "pair": pa.array([[1, 2]] * 9, pa.list_(pa.float32(), 2)),
            "struct": [{"a": 1, "b": "x"}] * 9,
            "raw": [b"12", b"", None] * 3,
            "flag": [True, False, None] * 3,
        }
    )


def _write_csv(folder: Path) -> dict[str, Any]:
    (folder / "a.csv").write_text('n,x,text,flag\n1,0.5,"a ""b""",true\n2,nan,ä,false\n3,1e3,,True\n')
    return {"paths": ("a.csv",)}


def _write_plain_parquet(folder: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"n": list(range(50)), "v": [[n, n] for n in range(50)]}), folder / "a.parquet")
    return {"paths": ("a.parquet",)}


def _write_parquet(folder: Path) -> dict[str, Any]:
    pq.write_table(_make_table(), folder / "a.parquet", row_group_size=4)
    return {"paths": ("a.parquet",)}


def _write_arrow(folder: Path) -> dict[str, Any]:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    image = {"bytes": _encode_image("PNG", Image.fromarray(PIXELS)), "path": None}
    table = _make_table().append_column("image", pa.array([image] * 9, kind))
    features = {"image": {"_type": "Image"}, "n": {"names": [*"abcdefghi"], "_type": "ClassLabel"}}
    split = folder / "train"
    split.mkdir()
    with pa.OSFile(str(split / "0.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "0.arrow"}]}))
    (split / "dataset_info.json").write_text(json.dumps({"features": features}))
    return {"paths": (".",)}


def _write_tar(mode: str) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        members = {
            "0.cls": b"1",
            "0.npy": _encode_npy(np.arange(4)),
            "0.txt": "ä".encode(),
            "0.png": _encode_image("PNG", Image.fromarray(PIXELS)),
            "1.json": b'{"a": [1, 2.5, null]}',
            "1.tilted.npy": _encode_npy(np.asfortranarray(np.ones((2, 3), ">f4"))),
            "2.single.npy": _encode_npy(np.array(3)),
        }
        with tarfile.open(folder / "a.tar", mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.pax_headers = {"comment": "ä"}
                archive.addfile(info, io.BytesIO(data))
        return {"paths": ("a.tar",)}

    return write


def _write_zarr(version: int) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=version)  # type: ignore[arg-type]
        group.create_array("image", data=np.arange(200, dtype="u1").reshape(20, 10), chunks=(7, 10))
        shards = {"shards": (8,)} if version == 3 else {}
        group.create_array("deep/label", data=np.arange(20, dtype=">i4"), chunks=(4,), **shards)
        group.create_array("when", data=np.arange(5).astype("M8[s]"), chunks=(5,))
        return {"paths": ("a.zarr",)}

    return write


def _write_safetensors(folder: Path) -> dict[str, Any]:
    tensors = {"a": np.arange(5), "b": np.ones((2, 2), np.float16)}
    notes = json.dumps({"values": {"c": {"complex": "1j"}, "d": 3}, "json": ["k"]})
    metadata = {"stockroom.export": notes, "k": "[1]"}
    safetensors.numpy.save_file(tensors, folder / "a.safetensors", metadata=metadata)
    return {"paths": ("a.safetensors",)}


def _write_numpy(folder: Path) -> dict[str, Any]:
    values = np.arange(60, dtype=">i2").reshape(5, 3, 4)
    np.save(folder / "plain.npy", values)
    np.save(folder / "tilted.npy", np.asfortranarray(values))
    np.savez(folder / "stored.npz", a=values, b=np.asfortranarray(values))
    np.savez_compressed(folder / "deflated.npz", c=values, d=np.asfortranarray(values))
    return {"paths": ("plain.npy", "tilted.npy", "stored.npz", "deflated.npz")}


def _write_images(folder: Path) -> dict[str, Any]:
    image = Image.fromarray(PIXELS)
    for kind, each in {
        "png": image,
        "jpg": image,
        "webp": image,
        "bmp": image,
        "palette.png": image.quantize(16),
        "gray.png": image.convert("LA"),
    }.items():
        (folder / f"cat_{kind}").mkdir()
        suffix = kind.rpartition(".")[2]
        format_name = "JPEG" if suffix == "jpg" else suffix.upper()
        (folder / f"cat_{kind}" / f"1.{suffix}").write_bytes(_encode_image(format_name, each))
    return {"paths": (".",)}


def _write_mnist(suffix: str) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        for part in ("train", "t10k"):
            for what, axes in (("images-idx3", (6, 5, 4)), ("labels-idx1", (6,))):
                head = bytes([0, 0, 8, len(axes)]) + b"".join(length.to_bytes(4, "big") for length in axes)
                data = head + bytes(range(int(np.prod(axes))))
                path = folder / f"{part}-{what}-ubyte{suffix}"
                path.write_bytes(gzip.compress(data, mtime=0) if suffix else data)
        return {"root": "."}

    return write


def _write_cifar_binary(folder: Path) -> dict[str, Any]:
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(bytes(3073))
    (folder / "batches.meta.txt").write_text("cat\ndög\n")
    return {"root": "."}


def _write_cifar_python(folder: Path) -> dict[str, Any]:
    for split in ("train", "test"):
        members = {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [1], b"coarse_labels": np.array([2])}
        (folder / split).write_bytes(pickle.dumps(members, 2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a"], "coarse_label_names": [b"b"]}))
    return {"root": "."}


def _write_checkpoint(is_zip: bool) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16), "n": (1, None, "x")}
        torch.save(state, folder / "a.pt", _use_new_zipfile_serialization=is_zip)
        return {"paths": ("a.pt",)}

    return write


FILES: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "csv": ("csv", _write_csv),
    "parquet": ("parquet", _write_parquet),
    "huggingface": ("huggingface", _write_arrow),
    **{f"webdataset {mode}": ("webdataset", _write_tar(mode)) for mode in ("w", "w:gz", "w:xz", "w:bz2")},
    "zarr 2": ("zarr", _write_zarr(2)),
    "zarr 3": ("zarr", _write_zarr(3)),
    "safetensors": ("safetensors", _write_safetensors),
    "numpy": ("numpy", _write_numpy),
    "imagefolder": ("imagefolder", _write_images),
    "mnist": ("torchvision.mnist", _write_mnist("")),
    "mnist gz": ("torchvision.mnist", _write_mnist(".gz")),
    "cifar10 binary": ("torchvision.cifar10", _write_cifar_binary),
    "cifar100 python": ("torchvision.cifar100", _write_cifar_python),
    "model safetensors": (MODEL, _write_safetensors),
    "model zip": (MODEL, _write_checkpoint(is_zip=True)),
    "model pickle": (MODEL, _write_checkpoint(is_zip=False)),
}
"""Sources, each with what writes sound files for it and tells the rest of the spec."""
