"""Archives and array files as columns: webdataset, Zarr, safetensors."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import ml_dtypes
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file
from zarr.storage import ZipStore

from stockroom import CorruptionError, InvalidInputError, StockRoom, StockroomError
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import BATCH_NBYTES, ImportSpec

RNG = np.random.default_rng(0)


def bring_in(stock: StockRoom, source: str, *paths: Path, **options: object):
    with stock.enable_write("archive") as writer:
        sources = resolve_importer(source).open(ImportSpec(source, paths=paths, **options))
        return import_into(writer, sources)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


# -- webdataset


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_of_one_base_name_are_one_row(stock, tmp_path, mode):
    pixels = RNG.integers(0, 256, (3, 6, 5, 3), np.uint8)
    members = {}
    for n in range(3):
        members |= {
            f"train/{n:04}.png": png(pixels[n]),
            f"train/{n:04}.cls": f"{n * 7}\n".encode(),
            f"train/{n:04}.json": json.dumps({"n": n}).encode(),
            f"train/{n:04}.vector.npy": npy(np.arange(n + 1, dtype="f4")),
            f"train/{n:04}.bin": bytes([n]) * 3,
        }
    members["train/0002.txt"] = "ä".encode()
    report = bring_in(stock, "webdataset", write_tar(tmp_path / "a.tar", members, mode))
    assert report.columns == ("key", "png", "cls", "json", "bin", "txt", "vector.npy")
    assert list(stock.data["key"].values()) == ["train/0000", "train/0001", "train/0002"]
    assert stock.data["png"].decoder == "image"
    for n in range(3):
        np.testing.assert_array_equal(stock.data["png"][n], pixels[n])
        assert stock.data["png"].encoded[n] == members[f"train/{n:04}.png"]
        np.testing.assert_array_equal(stock.data["vector.npy"][n], np.arange(n + 1))
    assert np.asarray(stock.data["cls"]).tolist() == [0, 7, 14]
    assert [json.loads(text)["n"] for text in stock.data["json"].values()] == [0, 1, 2]
    assert stock.data["bin"][2] == b"\x02\x02\x02"
    assert dict(stock.data["txt"].items()) == {2: "ä"}


def test_several_shards_are_one_table(stock, tmp_path):
    shards = [write_tar(tmp_path / f"{n}.tar", {f"{n}.cls": b"%d" % n, f"{n}.txt": b"x"}) for n in range(3)]
    bring_in(stock, "webdataset", *shards)
    assert np.asarray(stock.data["cls"]).tolist() == [0, 1, 2]


def test_hostile_names_are_only_text_and_links_are_passed_over(stock, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../../out.txt", "/etc/out.txt", "a/./b/../c.txt", "x\ny.txt"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"link{kind!r}.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    before = set(tmp_path.rglob("*"))
    bring_in(stock, "webdataset", path)
    assert list(stock.data["key"].values()) == ["../../out", "/etc/out", "a/./b/../c", "x\ny"]
    new = {each for each in tmp_path.rglob("*") if each not in before}
    assert all(tmp_path / "repo" in each.parents for each in new)


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ([], InvalidInputError, "expected files such as 0001.jpg"),
        ([("noending", b"1")], InvalidInputError, "found none; left out 1 file: 1 extensionless file"),
        ([("a.b c", b"1")], InvalidInputError, "found none; left out 1 file: 1 unusual name"),
        ([("a.txt", b"1"), ("a.txt", b"2")], CorruptionError, "occurs twice"),
        ([("a.cls", b"dog")], CorruptionError, "does not match its extension"),
        ([("a.cls", b"9" * 30)], CorruptionError, "does not fit 64 bits"),
        ([("a.json", b"{")], CorruptionError, "does not match its extension"),
        ([("a.json", b"[" * 100_000)], CorruptionError, "does not match its extension"),
        ([("a.txt", b"\xff")], CorruptionError, "does not match its extension"),
        ([("a.npy", b"\x93NUMPY")], InvalidInputError, "not an .npy array"),
    ],
)
def test_archives_of_other_things_are_refused(stock, tmp_path, members, error, message):
    with pytest.raises(error, match=message):
        bring_in(stock, "webdataset", write_tar(tmp_path / "a.tar", members))
    assert list(stock.data) == []


def test_pickles_in_an_archive_stay_bytes(stock, tmp_path):
    data = b"cos\nsystem\n(S'touch /tmp/pwned'\ntR."
    bring_in(stock, "webdataset", write_tar(tmp_path / "a.tar", {"a.pkl": data, "a.pyd": data}))
    assert stock.data["pkl"][0] == data


def test_torn_archives_are_refused(stock, tmp_path):
    path = write_tar(tmp_path / "a.tar", {f"{n}.bin": bytes(3000) for n in range(20)})
    whole = path.read_bytes()
    path.write_bytes(whole[:25_000])
    with pytest.raises(CorruptionError, match=r"a\.tar: not a complete tar archive"):
        bring_in(stock, "webdataset", path)
    path.write_bytes(b"no archive at all" * 100)
    with pytest.raises(CorruptionError, match="not a complete tar archive"):
        bring_in(stock, "webdataset", path)


def test_a_large_archive_is_streamed(tmp_path):
    path = write_tar(tmp_path / "a.tar", {f"{n}.bin": bytes(1 << 20) for n in range(64)})
    tracemalloc.start()
    try:
        (source,) = resolve_importer("webdataset").open(ImportSpec("webdataset", paths=(path,)))
        assert sum(len(batch["bin"]) for batch in source.batches()) == source.count == 64
        assert tracemalloc.get_traced_memory()[1] < 4 * BATCH_NBYTES
    finally:
        tracemalloc.stop()


# -- zarr


@pytest.mark.parametrize("version", [2, 3])
def test_each_array_of_a_zarr_group_is_a_column(stock, tmp_path, version):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    image, label = RNG.integers(0, 256, (50, 8, 9), np.uint8), np.arange(50)
    for name, values in {"image": image, "deep/label": label}.items():
        group.create_array(name, data=values, chunks=(7, *values.shape[1:]))
    bring_in(stock, "zarr", tmp_path / "a.zarr")
    np.testing.assert_array_equal(stock.data["image"], image)
    np.testing.assert_array_equal(stock.data["deep_label"], label)


def test_a_zarr_array_is_a_column_called_as_its_folder(stock, tmp_path):
    values = RNG.random((30, 4)).astype(">f4")
    zarr.create_array(tmp_path / "scan.zarr", data=values, chunks=(4, 2), shards=(8, 4))
    bring_in(stock, "zarr", tmp_path / "scan.zarr")
    np.testing.assert_array_equal(stock.data["scan"], values.astype("f4"))


def test_what_is_no_zarr_is_refused(stock, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "zarr.json").write_text("{}")
    zarr.create_array(tmp_path / "text.zarr", shape=(2, 2), dtype="<U3", zarr_format=2)
    zarr.create_array(tmp_path / "single.zarr", shape=(), dtype="f4")
    zarr.create_array(tmp_path / "vast.zarr", shape=(1 << 40,), chunks=(1 << 40,), dtype="f4")
    zarr.open_group(tmp_path / "none.zarr", mode="w")
    for name, message in {
        "nowhere": "no such file or folder",
        "empty": "expected a Zarr array or group|cannot be read",
        "odd": "cannot be read as Zarr|found none",
        "text.zarr": "expected text along one axis",
        "single.zarr": "found a single value",
        "vast.zarr": "expected chunks of at most 1 GiB",
        "none.zarr": "found none",
    }.items():
        with pytest.raises(StockroomError, match=message):
            bring_in(stock, "zarr", tmp_path / name)


class RunsCode(numcodecs.abc.Codec):
    """A codec that any installed package may register: decoding with it leaves a file."""

    codec_id = "runs-code"
    mark: Path

    def __init__(self) -> None:
        self.mark.touch()

    def encode(self, buf: bytes) -> bytes:
        return buf

    def decode(self, buf: bytes, out: object = None) -> bytes:
        self.mark.touch()
        return buf


@pytest.fixture
def mark(tmp_path, monkeypatch):
    monkeypatch.setattr(RunsCode, "mark", tmp_path / "mark", raising=False)
    monkeypatch.setitem(numcodecs.registry.codec_registry, "runs-code", RunsCode)
    monkeypatch.setitem(numcodecs.registry.codec_registry, "pickle", RunsCode)  # as numcodecs before 0.16.6 has it
    return tmp_path / "mark"


@pytest.mark.parametrize("codec", ["runs-code", "pickle", "msgpack2", "json2"])
@pytest.mark.parametrize("place", ["compressor", "filters", "consolidated"])
def test_a_zarr_2_array_is_decoded_with_the_codecs_of_our_list_only(stock, tmp_path, mark, place, codec):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=np.arange(4), filters=[numcodecs.Delta("i8")], compressors=numcodecs.Zlib())
    document = tmp_path / "a.zarr" / "x" / ".zarray"
    described = json.loads(document.read_text())
    foreign = {"id": codec}
    described |= {"filters": [foreign]} if place == "filters" else {"compressor": foreign}
    if place == "consolidated":
        listed = {".zgroup": {"zarr_format": 2}, "x/.zarray": described, "x/.zattrs": {}}
        (tmp_path / "a.zarr" / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": listed}))
    else:
        document.write_text(json.dumps(described))
    with pytest.raises(InvalidInputError, match=f"expected codecs out of .*found '{codec}'; nothing was decoded"):
        bring_in(stock, "zarr", tmp_path / "a.zarr")
    assert not mark.exists()


@pytest.mark.parametrize("place", ["codecs", "inner codecs", "index codecs", "chunk keys", "consolidated"])
def test_a_zarr_3_array_is_decoded_with_the_codecs_of_our_list_only(stock, tmp_path, place):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("x", data=np.arange(8), chunks=(2,), shards=(4,))
    document = tmp_path / "a.zarr" / "x" / "zarr.json"
    described = json.loads(document.read_text())
    foreign, sharding = {"name": "runs.code", "configuration": {}}, described["codecs"][0]["configuration"]
    match place:
        case "inner codecs":
            sharding["codecs"].append(foreign)
        case "index codecs":
            sharding["index_codecs"].append(foreign)
        case "chunk keys":
            described["chunk_key_encoding"] = foreign
        case _:
            described["codecs"].append(foreign)
    if place == "consolidated":
        listed = {"kind": "inline", "must_understand": False, "metadata": {"x": described}}
        of_group = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
        (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(of_group | {"consolidated_metadata": listed}))
    else:
        document.write_text(json.dumps(described))
    with pytest.raises(InvalidInputError, match=r"expected codecs out of .*found 'runs\.code'; nothing was decoded"):
        bring_in(stock, "zarr", tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "compressor",
    [numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZMA(), numcodecs.LZ4(), numcodecs.Zstd(), None],
)
def test_zarr_arrays_in_every_common_codec_are_read_from_folders_and_zip_files(stock, tmp_path, compressor):
    values = np.arange(100)
    for store in (tmp_path / "a.zarr", ZipStore(tmp_path / "b.zarr.zip", mode="w")):
        with store if isinstance(store, ZipStore) else contextlib.nullcontext():
            zarr.create_array(
                store,
                data=values,
                chunks=(7,),
                zarr_format=2,
                filters=[numcodecs.Delta("i8"), numcodecs.Shuffle(8)],
                compressors=compressor,
                attributes={"codecs": [{"name": "my own note"}], "filters": ["none"]},
            )
    bring_in(stock, "zarr", tmp_path / "a.zarr")
    bring_in(stock, "zarr", tmp_path / "b.zarr.zip")
    np.testing.assert_array_equal(stock.data["a"], values)
    np.testing.assert_array_equal(stock.data["b"], values)


def test_a_damaged_chunk_is_corruption(stock, tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.arange(1000), chunks=(100,))
    chunk = tmp_path / "a.zarr" / "c" / "5"
    chunk.write_bytes(b"\x00" + chunk.read_bytes()[5:])
    with pytest.raises(CorruptionError, match="cannot be read as Zarr"):
        bring_in(stock, "zarr", tmp_path / "a.zarr")


# -- safetensors


def test_each_tensor_of_a_file_is_a_column(stock, tmp_path):
    tensors = {
        "image": RNG.random((40, 3, 5), np.float32),
        "layer.0/weight": np.arange(7, dtype=np.int16),
        "flag": np.array([True, False]),
        "empty": np.empty((0, 3)),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    bring_in(stock, "safetensors", tmp_path / "a.safetensors")
    for name, values in tensors.items():
        column = stock.data[name.replace("/", "_")]
        assert column.dtype == values.dtype
        np.testing.assert_array_equal(column, values)


def forge(path: Path, header: object, body: bytes = b"") -> Path:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + body)
    return path


def test_bfloat16_stays_bfloat16(stock, tmp_path):
    values = np.arange(6, dtype=ml_dtypes.bfloat16)
    header = {"x": {"dtype": "BF16", "shape": [6], "data_offsets": [0, 12]}}
    bring_in(stock, "safetensors", forge(tmp_path / "a.safetensors", header, values.tobytes()))
    np.testing.assert_array_equal(np.asarray(stock.data["x"]), values)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "not a safetensors file"),
        (b"[]", "not a safetensors file"),
        (b"{" * 50, "not a safetensors file"),
        ({}, "expected tensors, found none"),
        ({"x": {"dtype": "F32", "shape": [2]}}, "expected dtype, shape and data_offsets"),
        ({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, "do not agree"),
        ({"x": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}}, "do not agree"),
        ({"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}, "do not agree"),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, "do not agree"),
        ({"x": {"dtype": "F7", "shape": [2], "data_offsets": [0, 8]}}, "expected a dtype"),
        ({"x": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]}}, "samples along the first axis"),
    ],
)
def test_other_headers_are_refused(stock, tmp_path, header, message):
    with pytest.raises(StockroomError, match=message):
        bring_in(stock, "safetensors", forge(tmp_path / "a.safetensors", header, bytes(8)))


@given(data=st.data())
def test_mutated_archives_raise_our_errors_only(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("mutated")
    source = data.draw(st.sampled_from(["webdataset", "safetensors"]))
    path = folder / "a.file"
    if source == "webdataset":
        write_tar(path, {"0.cls": b"1", "0.npy": npy(np.arange(4)), "1.json": b"{}"})
    else:
        save_file({"a": np.arange(5), "b": np.ones((2, 2), np.float16)}, path)
    mutated = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, min(len(mutated), 4000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(mutated)
    with contextlib.suppress(StockroomError):
        for each in resolve_importer(source).open(ImportSpec(source, paths=(path,))):
            for _ in each.batches():
                pass
