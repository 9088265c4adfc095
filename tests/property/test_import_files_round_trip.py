"""Whatever is in a file comes out of its import equal, or is named in an error or in the line of what is left out."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import safetensors.numpy
import zarr
import zarr.codecs as codecs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageOps

from stockroom import StockroomError
from stockroom.importers.left_out import LeftOut
from stockroom.importers.registry import resolve_importer
from stockroom.importers.source import ImportSpec, Source, TableSource

EXAMPLES = settings(max_examples=40)


def open_sources(source: str, *paths: Path) -> tuple[Sequence[Source], LeftOut]:
    sources = resolve_importer(source).open(ImportSpec(source, paths=paths))
    left_out = LeftOut()
    for each in sources:
        left_out.merge(each.left_out)
    return sources, left_out


def read_columns(sources: Sequence[Source]) -> dict[str, list[Any]]:
    """The samples of each column; None where a row has none."""
    columns: dict[str, list[Any]] = {}
    for source in sources:
        if not isinstance(source, TableSource):
            columns[source.name] = [sample for batch in source.batches() for sample in batch]
            continue
        columns |= {plan.name: [] for plan in source.plans}
        for rows in source.batches():
            for name, values in rows.items():
                columns[name] += list(values)
    return columns


# -- images

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F")
FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "GIF": ".gif",
    "PPM": ".ppm",
    "TGA": ".tga",
}
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)


def make_image(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    if mode in ("LAB", "HSV", "YCbCr"):
        return Image.frombytes(mode, (7, 5), PIXELS[..., :3].tobytes())
    image = Image.fromarray(PIXELS)
    return image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)


def as_rgba(pixels: np.ndarray) -> np.ndarray:
    """Gray, RGB or RGBA pixels of 8 bits as RGBA, without Pillow."""
    color = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    alpha = pixels[..., 3:] if pixels.shape[2:] == (4,) else np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([color, alpha], axis=2)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_and_format_is_equal_or_named(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "set" / f"odd{FORMATS[kind]}"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
    options |= {"transparency": 3} if mode in ("L", "P") and kind in ("PNG", "GIF") else {}
    try:
        make_image(mode).save(path, kind, **options)
    except (OSError, ValueError, KeyError, TypeError):
        return  # Pillow itself does not write such a file
    Image.fromarray(PIXELS[..., 0]).save(path.with_name("plain.bmp"))
    try:
        sources, left_out = open_sources("imagefolder", path.parent)
        columns = read_columns(sources)
    except StockroomError as error:
        assert "images of one mode" in str(error) or path.name in str(error)  # noqa: PT017
        return
    images = dict(zip(columns["path"], columns["image"], strict=True))
    np.testing.assert_array_equal(as_rgba(images["plain.bmp"]), as_rgba(PIXELS[..., 0]))
    if path.name not in images:
        assert any(line.startswith(f"{path.name}: ") for line in left_out.list_lines())
        return
    with Image.open(path) as opened:
        assert opened.mode in ("1", "L", "LA", "P", "RGB", "RGBA")  # these fit 8 bits, and RGBA holds them
        shown = ImageOps.exif_transpose(opened)
        np.testing.assert_array_equal(as_rgba(images[path.name]), np.asarray(shown.convert("RGBA")))


# -- arrays

DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
    npst.unicode_string_dtypes(min_len=1, max_len=4),
    npst.byte_string_dtypes(min_len=1, max_len=4),
    st.sampled_from([np.dtype("i4,f8"), np.dtype("V3"), np.dtype(np.longdouble), np.dtype("m8")]),
)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def make_array(dtype: np.dtype, shape: tuple[int, ...], seed: int, is_tilted: bool) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    if dtype.kind in "US":
        texts = np.array(["", "a", "bé", "xyz"] if dtype.kind == "U" else [b"", b"a", b"\0b", b"xyz"])
        array = numbers.choice(texts, shape).astype(dtype)
    elif dtype.kind == "V" or dtype == np.longdouble:
        array = np.zeros(shape, dtype)
    else:
        raw = numbers.bytes(int(np.prod(shape)) * dtype.itemsize)
        array = (np.frombuffer(raw, "u1") % 2 if dtype.kind == "b" else np.frombuffer(raw, "u1")).view(dtype)
        array = array.reshape(shape)
    return np.asfortranarray(array) if is_tilted and array.ndim else array


def check_arrays(arrays: dict[str, np.ndarray], source: str, path: Path) -> None:
    """Each array comes out equal, bit for bit, or is named."""
    try:
        sources, left_out = open_sources(source, path)
        columns = read_columns(sources)
    except StockroomError as error:
        assert any(name in str(error) for name in arrays)  # noqa: PT017
        return
    for name, array in arrays.items():
        if name not in columns:
            assert any(f"{name}" in line.rpartition(path.name)[2] for line in left_out.list_lines())
        elif array.dtype.kind in "US":
            assert columns[name] == array.tolist()
        else:
            native = array.astype(array.dtype.newbyteorder("="), order="C")
            assert len(columns[name]) == len(array)
            assert b"".join(sample.tobytes() for sample in columns[name]) == native.tobytes()
            assert all(sample.dtype == native.dtype and sample.shape == array.shape[1:] for sample in columns[name])


ARRAYS = st.lists(st.builds(make_array, DTYPES, SHAPES, st.integers(0, 99), st.booleans()), min_size=1, max_size=5)


@EXAMPLES
@given(arrays=ARRAYS, is_compressed=st.booleans())
def test_arrays_of_an_npz_file_are_equal_or_named(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[np.ndarray], is_compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    named = {f"array{number}": array for number, array in enumerate(arrays)}
    save: Any = np.savez_compressed if is_compressed else np.savez
    save(path, **named)
    check_arrays(named, "numpy", path)


CODECS = {
    2: [None, numcodecs.Zlib(), numcodecs.Zstd(), numcodecs.Blosc(), numcodecs.LZ4()],
    3: [None, codecs.ZstdCodec(), codecs.GzipCodec(), codecs.BloscCodec(typesize=1)],
}


@pytest.mark.filterwarnings("ignore:The data type")  # zarr, of text in version 3
@pytest.mark.parametrize("version", [2, 3])
@settings(max_examples=15)
@given(arrays=ARRAYS, data=st.data())
def test_arrays_of_a_zarr_group_are_equal_or_named(
    tmp_path_factory: pytest.TempPathFactory, version: Any, arrays: list[np.ndarray], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("zarr") / "set.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    named = {}
    for number, array in enumerate(arrays):
        if array.dtype in (np.longdouble, np.dtype("m8")):
            continue  # Zarr has neither
        name = f"array{number}"
        codec = data.draw(st.sampled_from(CODECS[version]))
        chunks = tuple(data.draw(st.integers(1, max(1, length))) for length in array.shape)
        group.create_array(
            name, data=np.ascontiguousarray(array).reshape(array.shape), chunks=chunks, compressors=codec
        )
        named[name] = array
    if named:
        check_arrays(named, "zarr", path)


@EXAMPLES
@given(arrays=ARRAYS)
def test_tensors_of_a_safetensors_file_are_equal_or_named(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("safetensors") / "set.safetensors"
    named = {
        f"array{number}": np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(array.shape)
        for number, array in enumerate(arrays)
        if array.dtype.kind in "biufc" and array.dtype.itemsize <= 8
    }
    if named:
        safetensors.numpy.save_file(named, path)
        check_arrays(named, "safetensors", path)


# -- archives

CONTENTS = {
    "txt": ["", "ä", "\ufeffa\r\n"],
    "json": ['{"a": [1, null]}', "3"],
    "cls": ["7", "-1"],
    "bin": ["", "\0x"],
    "JPG": ["no image"],
    "v.npy": ["npy"],
    "": ["x"],
    "od d": ["x"],
}
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "10", "9", "d/a", "__meta__", "", ".c"]), st.sampled_from([*CONTENTS])),
    min_size=1,
    max_size=7,
)


def encode_member(ending: str, content: str) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3, dtype=">f4"))
    return buffer.getvalue() if ending == "v.npy" else content.encode()


def is_equal(value: Any, data: bytes) -> bool:
    if isinstance(value, np.ndarray):
        return np.array_equal(value, np.load(io.BytesIO(data)))
    if isinstance(value, np.int64):
        return str(value) == data.decode()
    return value == data or (isinstance(value, str) and value.encode() == data)


@EXAMPLES
@given(members=MEMBERS, mode=st.sampled_from(["w", "w:gz", "w:xz"]), is_sorted=st.booleans(), data=st.data())
def test_files_of_an_archive_are_equal_or_named(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[str, str]],
    mode: Any,
    is_sorted: bool,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("tar") / "set.tar"
    files: list[tuple[str, bytes]] = []
    with tarfile.open(path, mode) as archive:
        for base, ending in sorted(members) if is_sorted else members:
            content = encode_member(ending, data.draw(st.sampled_from(CONTENTS[ending])))
            info = tarfile.TarInfo(f"{base}.{ending}" if ending else base or "x")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            files.append((info.name, content))
    try:
        sources, left_out = open_sources("webdataset", path)
        columns = read_columns(sources)
    except StockroomError as error:
        names = itertools.chain(*((name, name.partition(".")[0]) for name, _ in files))
        assert any(name and name in str(error) for name in names) or "left out" in str(error)  # noqa: PT017
        return
    keys = columns.pop("key")
    assert len(keys) == len(set(keys))
    found = {
        f"{key}.{name}".lower(): column[row]
        for name, column in columns.items()
        for row, key in enumerate(keys)
        if row < len(column) and column[row] is not None
    }
    lines = left_out.list_lines()
    for name, content in files:
        if name.lower() in found:
            assert is_equal(found.pop(name.lower()), content)
        else:
            assert any(f": {name!r}: " in line for line in lines)
    assert found == {}
    assert json.dumps(left_out.as_document())
