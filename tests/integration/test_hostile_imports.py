"""Files that come from strangers, imported: nothing in them is executed, and their claims are bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet
from tests.kit.hostile import Hostile

from stockroom import CorruptionError, InvalidInputError, StockRoom
from stockroom.importers import limits, web_dataset
from stockroom.importers.limits import Limits
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec


def bring_in(stock: StockRoom, source: str, *paths: Path, **options: Any) -> None:
    with stock.enable_write("import") as writer:
        import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=paths, **options)))


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


# -- bombs: what a file claims is bounded, as a rule by its size


def nest(levels: int) -> bytes:
    """A pickle of a dict whose key is a tuple of twice the same tuple, and so on."""
    return b"\x80\x02})" + b"2\x86" * levels + b"K\x01s."


def write_cifar(folder: Path, batch: bytes) -> Path:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name in names:
        (folder / "cifar-10-batches-py").mkdir(exist_ok=True)
        (folder / "cifar-10-batches-py" / name).write_bytes(batch)
    return folder


PICKLES = {
    "a key that takes for ever to hash": (nest(42), "found a key of type tuple"),
    "keys of one hash": (pickle.dumps({n * (2**61 - 1): 0 for n in range(2, 50)}, 2), "found a key of type int"),
    "an array of a number": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01\x8a\x05\x00\x00\x00\x00\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89\x8a\x05\x00\x00\x00\x00\x02tb.",
        "found an array of objects",
    ),
    "sets": (b"\x80\x04\x8f(K\x01\x90.", "found the opcode EMPTY_SET"),
    "lists out of one byte each": (b"\x80\x02(" + b"]" * 4_000_001 + b"l.", "expected at most 4000000 opcodes"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_takes_for_ever_is_refused(stock: StockRoom, tmp_path: Path, name: str) -> None:
    content, message = PICKLES[name]
    write_cifar(tmp_path, content)
    with pytest.raises(InvalidInputError, match=message):
        bring_in(stock, "torchvision.cifar10", root=tmp_path)


def compress_tar(path: Path, headers: list[tarfile.TarInfo], kind: str) -> Path:
    """An archive of headers whose content is zeros, as large as they say."""
    opener = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[kind]
    with opener(path, "wb") as file:
        for header in headers:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            for _ in range(-(-header.size // (1 << 20))):
                file.write(bytes(1 << 20))
        file.write(bytes(1024))
    return path


def make_header(kind: bytes, nbytes: int, name: str = "0.txt") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.size = kind, nbytes
    return header


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_claims_much_is_refused_unread(stock: StockRoom, tmp_path: Path, kind: bytes) -> None:
    path = compress_tar(tmp_path / "a.tar", [make_header(kind, 64 << 20)], "gz")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="expected at most 1048576 bytes of a header"):
            bring_in(stock, "webdataset", path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_many_headers_for_one_member_are_refused(stock: StockRoom, tmp_path: Path) -> None:
    headers = [make_header(tarfile.XGLTYPE, 1 << 20) for _ in range(70)]
    path = compress_tar(tmp_path / "a.tar", headers, "gz")
    with pytest.raises((InvalidInputError, CorruptionError)):
        bring_in(stock, "webdataset", path)


@pytest.mark.parametrize("kind", ["bz2", "xz"])
def test_an_archive_that_becomes_far_more_than_its_size_is_refused(
    stock: StockRoom, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE_NBYTES", 8 << 20)
    path = compress_tar(tmp_path / "a.tar", [make_header(tarfile.REGTYPE, 64 << 20)], kind)
    with pytest.raises(InvalidInputError, match=r"bytes out of a file of its size, found .* --limits FACTOR"):
        bring_in(stock, "webdataset", path)
    bring_in(stock, "webdataset", path, limits=Limits(1000))
    assert len(stock.data["txt"][0]) == 64 << 20


def test_a_row_of_an_archive_is_bounded(stock: StockRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_dataset, "MAX_ROW_NBYTES", 3 << 20)
    members = [make_header(tarfile.REGTYPE, 1 << 20, f"0.x{number}") for number in range(4)]
    path = compress_tar(tmp_path / "a.tar", members, "gz")
    with pytest.raises(InvalidInputError, match=r"a.tar: '0': expected at most 3145728 bytes of a row"):
        bring_in(stock, "webdataset", path)


def test_sparse_members_are_refused_before_they_are_read(stock: StockRoom, tmp_path: Path) -> None:
    path = compress_tar(tmp_path / "a.tar", [make_header(tarfile.GNUTYPE_SPARSE, 0)], "gz")
    with pytest.raises(InvalidInputError, match="which is sparse"):
        bring_in(stock, "webdataset", path)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_archive_in_several_streams_is_read_and_a_torn_one_refused(
    stock: StockRoom, tmp_path: Path, kind: str
) -> None:
    content, compress = io.BytesIO(), {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
    values = [np.random.default_rng(number).bytes(700_000) for number in range(4)]
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number, value in enumerate(values):
            header = make_header(tarfile.REGTYPE, len(value), f"{number}.bin")
            archive.addfile(header, io.BytesIO(value))
    raw = content.getvalue()
    whole = compress(raw[:1_000_000]) + compress(raw[1_000_000:])
    (tmp_path / "a.tar").write_bytes(whole + bytes(100))
    bring_in(stock, "webdataset", tmp_path / "a.tar")
    assert list(stock.data["bin"].values()) == values
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptionError, match="not a complete tar archive"):
        bring_in(stock, "webdataset", tmp_path / "a.tar")


def test_the_factor_of_the_limits_is_above_zero() -> None:
    for factor in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidInputError, match="expected a factor above 0"):
            Limits(factor)


@pytest.mark.parametrize("titles", [200_000, 10_001])
def test_a_table_of_too_many_columns_is_refused_at_once(stock: StockRoom, tmp_path: Path, titles: int) -> None:
    path = tmp_path / "a.csv"
    line = ",".join(map(str, range(titles)))
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(InvalidInputError, match=f"a.csv: expected at most 10000 columns, found {titles} or more; "):
        bring_in(stock, "csv", path)


def test_a_title_that_is_there_twice_is_found_among_many(stock: StockRoom, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(map(str, range(100_000))) + ",99999\n")
    with pytest.raises(InvalidInputError, match="found '99999' twice"):
        bring_in(stock, "csv", path)


def test_an_archive_of_too_many_arrays_is_refused(stock: StockRoom, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(10_001):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(InvalidInputError, match="expected at most 10000 arrays"):
        bring_in(stock, "numpy", tmp_path / "a.npz")


def write_zarr(folder: Path, compressor: Any, version: int = 2) -> Path:
    options = {"compressors": compressor} if version == 2 else {"compressors": (compressor,)}
    zarr.create_array(folder / "a.zarr", data=np.arange(100), chunks=(100,), zarr_format=version, **options)
    return folder / "a.zarr"


@pytest.mark.parametrize(
    "compressor",
    [numcodecs.Blosc(), numcodecs.Zstd(), numcodecs.LZ4(), numcodecs.BZ2(), numcodecs.LZMA()],
    ids=lambda codec: codec.codec_id,
)
def test_a_chunk_that_becomes_far_more_than_its_array_says_is_not_decoded(
    stock: StockRoom, tmp_path: Path, compressor: Any
) -> None:
    path = write_zarr(tmp_path, compressor)
    (path / "0").write_bytes(compressor.encode(bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError, match="expected a chunk of 800 bytes, found"):
            bring_in(stock, "zarr", path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_chunk_of_zarr_3_is_bounded_too(stock: StockRoom, tmp_path: Path) -> None:
    path = write_zarr(tmp_path, zarr.codecs.BloscCodec(cname="zstd"), version=3)
    (path / "c" / "0").write_bytes(numcodecs.Blosc().encode(bytes(64 << 20)))
    with pytest.raises(CorruptionError, match="expected a chunk of 800 bytes, found"):
        bring_in(stock, "zarr", path)


def test_an_array_that_is_compressed_twice_is_refused(stock: StockRoom, tmp_path: Path) -> None:
    path = write_zarr(tmp_path, numcodecs.Zlib())
    document = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(document | {"filters": [{"id": "bz2", "level": 1}]}))
    with pytest.raises(InvalidInputError, match="expected one compressor, found bz2, zlib"):
        bring_in(stock, "zarr", path)


def test_an_array_of_nothing_but_its_fill_value_is_bounded(stock: StockRoom, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(1 << 40,), chunks=(1000,), dtype="f4")
    with pytest.raises(
        InvalidInputError, match=r"a\.zarr: expected at most 1073741824 bytes out of a file of its size"
    ):
        bring_in(stock, "zarr", tmp_path / "a.zarr")
