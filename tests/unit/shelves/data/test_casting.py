"""Columns renamed, copied and cast; batches of many shapes; tuples as keys; columns of encoded images."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.kit.packs import measure_packs

from stockroom import (
    ColumnNotFoundError,
    InvalidInputError,
    InvalidNameError,
    SampleNotFoundError,
    SchemaError,
    StockRoom,
    make_torch_dataset,
)
from stockroom.content.column import ColumnRecord, decode_column
from stockroom.shelves.data.keys import format_nested, parse_nested

RNG = np.random.default_rng(0)


def encode(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    return RNG.integers(0, 256, (20, 24, 24, 3), np.uint8)


# -- rename, copy, cast


def test_a_renamed_column_is_the_same_one_and_writes_no_chunk(stock, pixels):
    with stock.enable_write("first") as writer:
        writer.data["image"] = pixels
        writer.data["image"].attrs = {"unit": "mm"}
    before, root = measure_packs(stock.path), stock.data["image"].root
    with stock.enable_write("renamed") as writer:
        assert writer.data.rename("image", "photo").name == "photo"
    assert list(stock.data) == ["photo"]
    assert (stock.data["photo"].root, stock.data["photo"].attrs) == (root, {"unit": "mm"})
    np.testing.assert_array_equal(stock.data["photo"], pixels)
    assert measure_packs(stock.path) == before


def test_a_copied_column_writes_no_chunk_and_goes_its_own_way(stock, pixels):
    with stock.enable_write("first") as writer:
        writer.data["image"] = pixels
    before = measure_packs(stock.path)
    with stock.enable_write("copied") as writer:
        writer.data["image"][0] = pixels[1]  # what is staged only is copied too
        writer.data.copy("image", "other")
        del writer.data["image"][2]
    np.testing.assert_array_equal(stock.data["other"][0], pixels[1])
    assert (len(stock.data["image"]), len(stock.data["other"])) == (19, 20)
    assert measure_packs(stock.path) == before


def test_names_that_are_taken_or_no_names_are_refused(stock, pixels):
    with stock.enable_write("first") as writer:
        writer.data["image"], writer.data["label"] = pixels, np.arange(20)
        with pytest.raises(InvalidInputError, match="already exists"):
            writer.data.rename("image", "label")
        with pytest.raises(InvalidInputError, match="already exists"):
            writer.data.copy("image", "image")
        with pytest.raises(InvalidNameError):
            writer.data.copy("image", "a..b")
        with pytest.raises(ColumnNotFoundError, match="no column 'imag'"):
            writer.data.rename("imag", "photo")
        with pytest.raises(ColumnNotFoundError):
            writer.data.cast("imag", "float32")
    assert list(stock.data) == ["image", "label"]


@pytest.mark.parametrize(
    ("before", "dtype"),
    [
        (np.array([True, False] * 600), "uint8"),
        (np.arange(3000), "uint16"),
        (np.arange(12.0).reshape(4, 3), "float32"),
        (RNG.random((40, 30, 30), np.float32), "bfloat16"),
        (np.array([1.0, np.nan, np.inf]), "float16"),
        (np.arange(6, dtype="u1").reshape(2, 3), "int64"),
        (np.arange(5), "complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_a_cast_column_has_the_values_in_the_other_dtype(stock, before, dtype):
    with stock.enable_write("first") as writer:
        writer.data["x"] = before
        writer.data["x"].attrs = {"kept": True}
        assert str(writer.data.cast("x", dtype).dtype) == dtype
    assert stock.data["x"].attrs == {"kept": True}
    expected = before.astype(stock.data["x"].dtype)
    np.testing.assert_array_equal(np.asarray(stock.data["x"]).view("u1"), expected.view("u1"))
    with StockRoom(stock.path) as fresh:
        np.testing.assert_array_equal(fresh.data["x"][1], expected[1])


def test_casts_that_keep_the_bytes_write_none(stock):
    words = [f"word {n} " * 20 for n in range(100)]
    with stock.enable_write("first") as writer:
        writer.data["flag"] = np.ones((50, 64), bool)
        writer.data["text"] = words
    before, roots = measure_packs(stock.path), [stock.data[name].root for name in ("flag", "text")]
    with stock.enable_write("cast") as writer:
        writer.data.cast("flag", "uint8")
        writer.data.cast("text", bytes)
    assert [stock.data[name].root for name in ("flag", "text")] == roots
    assert stock.data["text"][3] == words[3].encode()
    with stock.enable_write("and back") as writer:
        writer.data.cast("text", str)
    assert stock.data["text"][3] == words[3]
    assert measure_packs(stock.path) == before


def test_a_value_that_does_not_fit_is_named_and_nothing_changes(stock):
    with stock.enable_write("first") as writer:
        writer.data["n"] = {"small": 3, "large": 300}
        writer.data["x"] = np.array([1.0, 2.5])
        writer.data["far"] = np.array([1e300])
        writer.data["raw"] = [b"ok", b"\xff\xfe"]
        for name, dtype, key in (("n", "uint8", "'large'"), ("x", "int32", "1"), ("far", "float32", "0")):
            with pytest.raises(SchemaError, match=f"key {key}: its values do not fit {dtype}"):
                writer.data.cast(name, dtype)
        with pytest.raises(SchemaError, match="key 1: expected UTF-8"):
            writer.data.cast("raw", str)
        with pytest.raises(SchemaError, match="cannot cast bytes to int8"):
            writer.data.cast("raw", "int8")
        assert writer.data.cast("x", "int32", lossy=True)[1] == 2
    assert stock.data["n"]["large"] == 300


def test_columns_of_many_shapes_and_of_str_keys_are_cast(stock):
    values = {f"key {n}": np.full((n, 40), n, np.float64) for n in range(30)}
    with stock.enable_write("first") as writer:
        writer.data["x"] = values
        writer.data.cast("x", "float32")
    assert stock.data["x"].shape == (None, 40)
    for key, value in stock.data["x"].items():
        np.testing.assert_array_equal(value, values[key].astype(np.float32))


# -- batches of many shapes


def test_samples_of_many_shapes_are_padded_to_the_longest(stock):
    with stock.enable_write("first") as writer:
        column = writer.data.create("x", dtype="float32", shape=(None, 2, None))
        column.extend([np.full((n, 2, 5 - n), n, np.float32) for n in range(1, 5)])
    batch = stock.data["x"].take([3, 0], pad=-1)
    assert (batch.shape, batch.dtype) == ((2, 4, 2, 4), np.float32)
    assert (batch[0, :, :, :1] == 4).all()
    assert (batch[0, :, :, 1:] == -1).all()
    assert (batch[1, 0] == 1).all()
    assert (batch[1, 1:] == -1).all()
    assert isinstance(stock.data["x"].take([3, 0]), list)
    assert stock.data["x"].take([], pad=0).shape == (0, 0, 2, 0)
    assert np.isnan(stock.data["x"].take([0, 3], pad=np.nan)[0, 3]).all()


def test_padding_leaves_one_shape_alone_and_refuses_what_cannot_be(stock):
    with stock.enable_write("first") as writer:
        writer.data["one"] = np.arange(6).reshape(3, 2)
        writer.data["text"] = ["a"]
        writer.data["many"] = [np.arange(n, dtype="u1") for n in (1, 2)]
    assert stock.data["one"].take([0, 2], pad=0).tolist() == [[0, 1], [4, 5]]
    with pytest.raises(SchemaError, match="holds str, which cannot be padded"):
        stock.data["text"].take([0], pad=0)
    for pad in (300, 0.5, "x", [1, 2]):
        with pytest.raises(SchemaError, match="cannot pad uint8 with"):
            stock.data["many"].take([0, 1], pad=pad)


# -- tuples as keys


def test_tuples_are_keys_and_come_back_as_they_were_given(stock):
    given_keys = [("patient", 3), ("patient", "3"), ("a/b", 0), ('"quoted"', -1, "ü"), "plain", "[not a list"]
    with stock.enable_write("first") as writer:
        column = writer.data.create("scan", dtype="int64", keys="str")
        for value, key in enumerate(given_keys):
            column[key] = value
        column.update({("patient", np.int64(4)): 40})
    scan = stock.data["scan"]
    assert set(scan) == {*given_keys, ("patient", 4)}
    for value, key in enumerate(given_keys):
        assert scan[key] == value
        assert key in scan
    assert scan["patient", 4] == 40
    assert stock.data["scan", "patient", 4] == stock.data["scan", ("patient", 4)] == 40
    assert scan['["patient",4]'] == 40  # the text that stands for it
    assert scan[[("patient", 3), "plain"]].tolist() == [0, 4]
    assert dict(scan.items())["patient", "3"] == 1
    with pytest.raises(SampleNotFoundError, match=r"under key \('patient', 9\)"):
        scan["patient", 9]
    with stock.enable_write("one less") as writer:
        del writer.data["scan"]["patient", 3]
        writer.data["again"] = writer.data["scan"]
        writer.data["dict"] = {("a", 1): 1.0}
    assert ("patient", 3) not in stock.data["scan"]
    assert list(stock.data["again"]) == list(stock.data["scan"])
    assert list(stock.data["dict"]) == [("a", 1)]
    assert make_torch_dataset([stock.data["scan"]], keys=[("patient", 4)])[0][0] == 40


@pytest.mark.parametrize("key", [(), (1.5,), ("a", None), (True, 1), (("a",), 1)])
def test_tuples_of_other_things_are_no_keys(stock, key):
    with stock.enable_write("first") as writer:
        column = writer.data.create("scan", dtype="int64", keys="str")
        with pytest.raises(SchemaError, match="expected a key of int and str"):
            column[key] = 1
        assert key not in column
        with pytest.raises(SchemaError, match="expected int keys"):
            writer.data.create("n", dtype="int64")[("a", 1)] = 1
        column["a"] = 1


@given(st.lists(st.integers() | st.text(), min_size=1, max_size=4).map(tuple))
def test_every_tuple_has_one_text_that_leads_back_to_it(key):
    assert parse_nested(format_nested(key, "here")) == key


@given(st.text())
def test_a_text_stays_itself_unless_it_stands_for_a_tuple(text):
    parsed = parse_nested(text)
    assert parsed == text or format_nested(parsed, "here") == text


# -- encoded images


@pytest.fixture
def photos(stock, pixels):
    """Three encoded images of other kinds and sizes, in a column that decodes them."""
    files = {
        "rgb": encode(pixels[0]),
        "gray": encode(pixels[1, :10, :, 0]),
        "jpeg": encode(pixels[2, :, :7], "JPEG", quality=90),
    }
    with stock.enable_write("photos") as writer:
        writer.data.create("photo", keys="str", decoder="image").update(files)
    return files


def test_a_column_of_images_keeps_the_bytes_and_gives_arrays(stock, photos, pixels):
    photo = stock.data["photo"]
    assert (photo.dtype, photo.shape, photo.decoder) == (np.uint8, (None, None, None), "image")
    np.testing.assert_array_equal(photo["rgb"], pixels[0])
    np.testing.assert_array_equal(photo["gray"], pixels[1, :10, :, 0])
    assert photo["jpeg"].shape == (24, 7, 3)
    assert {key: photo.encoded[key] for key in photo} == photos
    assert photo.encoded.dtype == "bytes"
    assert photo.nbytes == sum(map(len, photos.values()))
    assert [array.shape for array in photo.values()] == [(10, 24), (24, 7, 3), (24, 24, 3)]
    assert photo.take([2])[0].flags.writeable
    assert not photo.view("rgb").flags.writeable
    assert photo.take([1, 2], pad=0).shape == (2, 24, 24, 3)
    with pytest.raises(SchemaError, match="numbers of axes"):
        photo.take([0, 1], pad=0)
    assert make_torch_dataset([photo])[2][0].shape == (24, 24, 3)


def test_a_decoder_with_a_mode_gives_arrays_of_that_mode(stock, photos):
    with stock.enable_write("gray") as writer:
        column = writer.data.create("gray", keys="str", decoder="image:L")
        column.update(photos)
        assert column["rgb"].shape == (24, 24)  # staged ones too
        writer.data.create("rgba", keys="str", decoder="image:RGBA").update(photos)
    assert stock.data["gray"].shape == (None, None)
    assert stock.data["rgba"].take([0, 1, 2], pad=0).shape == (3, 24, 24, 4)


def test_kinds_of_png_come_as_arrays_that_lose_nothing(stock):
    deep = RNG.integers(0, 1 << 16, (5, 6)).astype(np.uint16)
    palette = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    with stock.enable_write("kinds") as writer:
        column = writer.data.create("photo", decoder="image")
        column.extend([encode(deep), buffer.getvalue(), encode(np.eye(9, dtype=bool))])
    photo = stock.data["photo"]
    assert photo[0].dtype == np.uint16
    np.testing.assert_array_equal(photo[0], deep)
    np.testing.assert_array_equal(photo[1], np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(photo[2], np.eye(9, dtype=np.uint8) * 255)


def test_what_is_no_image_is_named_on_reading_and_its_bytes_stay_readable(stock, photos):
    broken = {"cut": photos["jpeg"][:200], "text": b"no image", "gif": b"GIF89a" + bytes(20), "empty": b""}
    with stock.enable_write("broken") as writer:
        writer.data["photo"].update(broken)
    for key, data in broken.items():
        with pytest.raises(InvalidInputError, match=f"column 'photo', key '{key}': cannot decode the image"):
            stock.data["photo"][key]
        assert stock.data["photo"].encoded[key] == data
    with pytest.raises(InvalidInputError, match="column 'photo', position 0"):
        stock.data["photo"].take([0])


def test_a_decoder_belongs_to_bytes_and_must_be_known(stock):
    with stock.enable_write("none") as writer:
        with pytest.raises(SchemaError, match="expected the decoder 'image'"):
            writer.data.create("x", decoder="audio")
        with pytest.raises(SchemaError, match="expected the decoder 'image'"):
            writer.data.create("x", decoder="image:CMYK")
        with pytest.raises(SchemaError, match="on a bytes column"):
            writer.data.create("x", dtype="uint8", decoder="image")
        with pytest.raises(SchemaError, match="expected bytes, found ndarray"):
            writer.data.create("x", decoder="image")[0] = np.zeros((2, 2), np.uint8)
        with pytest.raises(SchemaError, match="cannot cast image columns"):
            writer.data.cast("x", str)


def test_copies_of_a_column_of_images_decode_too(stock, photos):
    with stock.enable_write("copies") as writer:
        writer.data.copy("photo", "copied")
        writer.data["assigned"] = writer.data["photo"]
    for name in ("copied", "assigned"):
        assert stock.data[name].decoder == "image"
        assert stock.data[name].root == stock.data["photo"].root


def test_a_record_without_a_decoder_has_the_bytes_it_always_had():
    record = ColumnRecord("bytes", (None,), "int", "auto", bytes(32), {})
    assert b"decoder" not in record.encode()
    frozen = bytes.fromhex(
        "5352636f0186a56474797065a56279746573a5736861706591c0a86b65795f74797065a3696e74a5636f646563a46175746fa4726f6f74"
        "c420" + "00" * 32 + "a5617474727380"
    )
    assert record.encode() == frozen
    assert decode_column(frozen, where="frozen") == record


def test_a_frozen_record_with_a_decoder_is_still_read():
    record = ColumnRecord("bytes", (None,), "int", "auto", bytes(32), {}, "image:RGB")
    frozen = bytes.fromhex(
        "5352636f0187a56474797065a56279746573a5736861706591c0a86b65795f74797065a3696e74a5636f646563a46175746fa4726f6f74"
        "c420" + "00" * 32 + "a5617474727380" + "a76465636f646572a9" + b"image:RGB".hex()
    )
    assert record.encode() == frozen
    assert decode_column(frozen, where="frozen") == record
    unknown = msgspec.structs.replace(record, decoder="hologram")
    assert decode_column(unknown.encode(), where="newer").decoder == "hologram"


def test_without_pillow_the_bytes_are_read_and_the_message_names_the_command(stock, photos, tmp_path: Path):
    code = """
import sys
sys.modules["PIL"] = None
from stockroom import StockRoom
with StockRoom(sys.argv[1]) as stock:
    photo = stock.data["photo"]
    print(len(photo.encoded["rgb"]), photo.dtype, len(photo))
    try:
        photo["rgb"]
    except Exception as error:
        print(type(error).__name__, error)
"""
    answer = subprocess.run([sys.executable, "-c", code, str(stock.path)], capture_output=True, text=True, check=True)
    first, second = answer.stdout.splitlines()
    assert first == f"{len(photos['rgb'])} uint8 3"
    assert second.startswith("InvalidInputError column 'photo', key 'rgb'")
    assert "pip install 'stockroom-vcs[images]'" in second
