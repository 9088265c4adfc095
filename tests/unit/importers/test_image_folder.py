"""Folders of images: what becomes of sizes, modes, labels and broken files."""

from __future__ import annotations

import contextlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stockroom import CorruptionError, InvalidInputError, StockRoom, StockroomError
from stockroom.importers.image_folder import ImageFolderImporter
from stockroom.importers.left_out import LeftOut
from stockroom.importers.run import ImportReport, import_into
from stockroom.importers.source import ImportSpec

RNG = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray, **options: object) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def bring_in(stock: StockRoom, folder: Path, **options: object) -> ImportReport:
    with stock.enable_write("images") as writer:
        sources = ImageFolderImporter().open(ImportSpec("imagefolder", paths=(folder,), **options))
        return import_into(writer, sources)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of images, of which one is in a folder further down."""
    for name, shape in {"cat/1.png": (8, 9, 3), "cat/far/2.PNG": (5, 4, 3), "dog/1.jpg": (16, 16, 3)}.items():
        save(tmp_path / "set" / name, RNG.integers(0, 256, shape, np.uint8))
    save(tmp_path / "set" / "ant/1.png", RNG.integers(0, 256, (3, 3), np.uint8))
    (tmp_path / "set" / "ant/notes.txt").write_text("no image")
    return tmp_path / "set"


def test_images_labels_and_paths_become_columns(stock, folder):
    report = bring_in(stock, folder)
    assert (report.columns, report.samples, report.skipped) == (("image", "label", "path"), 12, ())
    image, label, path = (stock.data[name] for name in report.columns)
    assert (image.dtype, image.shape, label.attrs) == (np.uint8, (None, None, 3), {"classes": ["ant", "cat", "dog"]})
    assert list(path.values()) == ["ant/1.png", "cat/1.png", "cat/far/2.PNG", "dog/1.jpg"]
    assert list(label.values()) == [0, 1, 1, 2]
    for key, name in path.items():
        with Image.open(folder / name) as opened:
            np.testing.assert_array_equal(image[key], np.asarray(opened.convert("RGB")))


def test_images_may_stay_the_files_they_are(stock, folder):
    bring_in(stock, folder, keep_encoded=True)
    image, path = stock.data["image"], stock.data["path"]
    assert (image.decoder, image.shape) == ("image:RGB", (None, None, 3))
    for key, name in path.items():
        assert image.encoded[key] == (folder / name).read_bytes()
        assert image[key].ndim == 3


def test_images_of_one_size_and_kind_have_a_fixed_shape(stock, tmp_path):
    pixels = [save(tmp_path / f"{n}.png", RNG.integers(0, 256, (6, 7), np.uint8)) for n in range(3)]
    report = bring_in(stock, tmp_path)
    assert report.columns == ("image", "path")  # no folders, no labels
    assert stock.data["image"].shape == (6, 7)
    np.testing.assert_array_equal(stock.data["image"], np.stack(pixels))


def test_an_image_with_transparency_makes_all_rgba(stock, tmp_path):
    save(tmp_path / "a" / "1.png", RNG.integers(0, 256, (4, 4, 4), np.uint8))
    save(tmp_path / "a" / "2.png", RNG.integers(0, 256, (4, 4), np.uint8))
    bring_in(stock, tmp_path)
    assert stock.data["image"].shape == (4, 4, 4)
    assert (stock.data["image"][1][..., 3] == 255).all()


def test_images_of_more_bits_keep_them_but_do_not_mix(stock, tmp_path):
    deep = save(tmp_path / "a" / "1.png", RNG.integers(0, 1 << 16, (5, 4)).astype(np.uint16))
    bring_in(stock, tmp_path)
    assert stock.data["image"].dtype == np.uint16
    np.testing.assert_array_equal(stock.data["image"][0], deep)
    save(tmp_path / "a" / "2.png", RNG.integers(0, 256, (4, 4, 3), np.uint8))
    with pytest.raises(InvalidInputError, match="expected 8-bit images, or images of one mode, found I;16, RGB"):
        bring_in(stock, tmp_path)


def bring_out(folder: Path, **options: object) -> tuple[list[np.ndarray | bytes], LeftOut]:
    """The images of a folder, and what is left out."""
    (source,) = ImageFolderImporter().open(ImportSpec("imagefolder", paths=(folder,), **options))
    return [image for batch in source.batches() for image in batch["image"]], source.left_out


def write_odd(folder: Path) -> Path:
    """One image that an array holds, and one of each kind that it does not."""
    folder.mkdir()
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(folder / "0.png")
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
    frames[0].convert("CMYK").save(folder / "cmyk.jpg")
    deep = bytearray((folder / "0.png").read_bytes())
    deep[24] = 16  # 16 bits: the pixels are too few then, but only the header is read
    deep[29:33] = zlib.crc32(deep[12:29]).to_bytes(4, "big")
    (folder / "deep.png").write_bytes(deep)
    return folder


def test_images_that_an_array_cannot_hold_are_left_out_by_name(tmp_path):
    images, left_out = bring_out(write_odd(tmp_path / "set"))
    assert [image.tolist() for image in images] == [[[[255, 0, 0]] * 4] * 4]
    assert left_out.list_lines() == [
        "animated.png: animated PNG image",
        "cmyk.jpg: CMYK image",
        "deep.png: 16-bit color image",
    ]


def test_a_folder_of_nothing_else_is_refused_and_the_way_out_is_named(tmp_path):
    (write_odd(tmp_path / "set") / "0.png").unlink()
    with pytest.raises(InvalidInputError, match=r"found none; left out 3 files: .*; --keep-encoded keeps images"):
        bring_out(tmp_path / "set")


def test_encoded_files_are_kept_whatever_an_array_holds(tmp_path):
    folder = write_odd(tmp_path / "set")
    (folder / "deep.png").unlink()  # it is not whole
    save(folder / "gray.png", np.full((3, 4), 300, np.uint16))
    images, left_out = bring_out(folder, keep_encoded=True)
    assert images == [path.read_bytes() for path in sorted(folder.iterdir())]
    assert len(left_out) == 0


def test_what_a_file_has_beside_its_pixels_is_counted(tmp_path):
    (tmp_path / "set").mkdir()
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "set" / "camera.jpg", "MPO", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "set" / "profile.png", icc_profile=b"profile")
    images, left_out = bring_out(tmp_path / "set")
    assert len(images) == 2
    assert left_out.summarize() == "3 parts: 2 further pictures, 1 color profile"
    assert len(bring_out(tmp_path / "set", keep_encoded=True)[1]) == 0


def test_images_of_one_upright_size_have_a_fixed_shape(stock, tmp_path):
    pixels = save(tmp_path / "set" / "a" / "1.png", RNG.integers(0, 256, (6, 7), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "set" / "a" / "2.png", np.rot90(pixels), exif=exif)
    bring_in(stock, tmp_path / "set")
    assert stock.data["image"].shape == (6, 7)
    np.testing.assert_array_equal(stock.data["image"], [pixels, pixels])


def test_an_orientation_after_the_pixels_is_not_lost(tmp_path):
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RNG.integers(0, 256, (6, 7), np.uint8)).save(data, "PNG", exif=exif)
    whole = data.getvalue()
    start = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[start : start + 4], "big")
    moved = whole[:start] + whole[start + length : -12] + whole[start : start + length] + whole[-12:]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").write_bytes(moved)
    with pytest.raises(CorruptionError, match=r"1\.png: its EXIF orientation is at its end; keep it with --keep-enc"):
        bring_out(tmp_path / "set")


def test_class_names_over_64_kib_are_counted_as_left_out(stock, tmp_path):
    for number in range(300):
        save(tmp_path / "set" / f"{number:03}{'x' * 240}" / "1.png", np.zeros((1, 1), np.uint8))
    report = bring_in(stock, tmp_path / "set")
    assert report.left_out.summarize() == "1 attribute: 1 large attribute"
    assert stock.data["label"].attrs == {}


@pytest.fixture
def broken(folder: Path) -> Path:
    """The same with four broken files: cut short, no image, empty, and a bomb."""
    whole = (folder / "dog/1.jpg").read_bytes()
    (folder / "dog/2.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cat/text.png").write_bytes(b"this is text")
    (folder / "cat/void.png").write_bytes(b"")
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    (folder / "ant/bomb.png").write_bytes(buffer.getvalue())
    return folder


@pytest.mark.parametrize("keep_encoded", [False, True])
def test_broken_files_are_all_named_and_nothing_is_imported(stock, broken, keep_encoded):
    with pytest.raises(CorruptionError) as caught:
        bring_in(stock, broken, keep_encoded=keep_encoded)
    message = str(caught.value)
    assert "4 of 8 files are broken" in message
    assert "--skip-broken" in message
    for name in ("dog/2.jpg", "cat/text.png", "cat/void.png", "ant/bomb.png"):
        assert name in message
    assert list(stock.data) == []


@pytest.mark.parametrize("keep_encoded", [False, True])
def test_broken_files_are_left_out_where_asked_and_the_rows_still_agree(stock, broken, keep_encoded):
    report = bring_in(stock, broken, skip_broken=True, keep_encoded=keep_encoded)
    assert sorted(line.partition(":")[0] for line in report.skipped) == [
        "ant/bomb.png",
        "cat/text.png",
        "cat/void.png",
        "dog/2.jpg",
    ]
    assert list(stock.data["path"].values()) == ["ant/1.png", "cat/1.png", "cat/far/2.PNG", "dog/1.jpg"]
    assert list(stock.data["image"]) == list(stock.data["label"]) == list(stock.data["path"]) == [0, 1, 2, 3]


def test_a_split_is_the_folder_of_that_name(stock, folder):
    bring_in(stock, folder.parent, split="set")
    assert list(stock.data) == ["set-image", "set-label", "set-path"]


def test_folders_without_images_and_no_folders_are_refused(stock, tmp_path):
    with pytest.raises(InvalidInputError, match="expected a folder of images, found none at"):
        bring_in(stock, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="expected images"):
        bring_in(stock, tmp_path / "empty")
    with pytest.raises(InvalidInputError, match="expected one folder"):
        ImageFolderImporter().open(ImportSpec("imagefolder"))


@given(data=st.data())
def test_mutated_files_raise_our_errors_only(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("mutated")
    kind = data.draw(st.sampled_from(["png", "jpg"]))
    save(root / "a" / f"1.{kind}", np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    path = root / "a" / f"1.{kind}"
    mutated = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(mutated)
    with contextlib.suppress(StockroomError):
        for source in ImageFolderImporter().open(ImportSpec("imagefolder", paths=(root,))):
            for batch in source.batches():
                assert len(batch["path"]) == 1
