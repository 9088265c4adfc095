"""Images as arrays: the value of every pixel, upright, or a refusal that names what an array cannot hold."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from stockroom import InvalidInputError
from stockroom.shelves.data.images import decode_image

RNG = np.random.default_rng(0)


def make_png(
    size: tuple[int, int], depth: int, color: int, rows: list[bytes], chunks: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a PNG file of any depth and color type: Pillow itself does not write most of them."""
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, [0b01000000], 1, [[0, 255], [255, 0]]),
        (1, [0b01000000], 0, [[0, 0], [255, 255]]),
        (2, [0b00011011], 3, [[0, 255], [85, 255], [170, 255], [255, 0]]),
        (2, [0b00011011], 1, [[0, 255], [85, 0], [170, 255], [255, 255]]),
        (4, [0x0F, 0x5A], 5, [[0, 255], [255, 255], [85, 0], [170, 255]]),
        (8, [5, 255], 5, [[5, 0], [255, 255]]),
    ],
)
def test_the_transparent_gray_of_a_png_file_becomes_alpha(
    depth: int, row: list[int], transparent: int, expected: list[list[int]]
) -> None:
    data = make_png((len(expected), 1), depth, 0, [bytes(row)], ((b"tRNS", struct.pack(">H", transparent)),))
    rgba = decode_image(data, "image", "here")
    assert rgba[0, :, [0, 3]].T.tolist() == expected


def test_the_transparent_color_of_a_png_file_becomes_alpha() -> None:
    data = make_png((2, 1), 8, 2, [bytes([1, 2, 3, 4, 5, 6])], ((b"tRNS", struct.pack(">HHH", 4, 5, 6)),))
    assert decode_image(data, "image", "here").tolist() == [[[1, 2, 3, 255], [4, 5, 6, 0]]]


@pytest.mark.parametrize("color", [2, 4, 6])
@pytest.mark.parametrize("decoder", ["image", "image:RGB"])
def test_color_of_16_bits_is_refused_rather_than_cut(color: int, decoder: str) -> None:
    data = make_png((1, 1), 16, color, [bytes(range(8))[: {2: 6, 4: 4, 6: 8}[color]]])
    with pytest.raises(InvalidInputError, match=r"here: expected .*, found: 16-bit color image; read .*encoded"):
        decode_image(data, decoder, "here")


def test_gray_of_16_bits_is_exact_and_refused_with_transparency() -> None:
    rows = [bytes([1, 2, 3, 4])]
    assert decode_image(make_png((2, 1), 16, 0, rows), "image", "here").tolist() == [[0x0102, 0x0304]]
    with pytest.raises(InvalidInputError, match="found: 16-bit transparent image"):
        decode_image(make_png((2, 1), 16, 0, rows, ((b"tRNS", b"\1\2"),)), "image", "here")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused_rather_than_cut_to_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidInputError, match=f"found: animated {kind} image"):
        decode_image(data, "image", "here")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("L", "JPEG"), ("I;16", "PNG"), ("P", "PNG")])
def test_images_are_upright(orientation: int, mode: str, kind: str) -> None:
    dtype = np.uint16 if mode == "I;16" else np.uint8
    image = Image.fromarray(RNG.integers(0, 256, (3, 5, 3) if mode in ("RGB", "P") else (3, 5), dtype))
    image = image.quantize(8) if mode == "P" else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored.convert("RGB") if mode == "P" else stored))
    for writable in (True, False):
        array = decode_image(data, "image", "here", writable=writable)
        np.testing.assert_array_equal(array, shown)
        assert array.flags.c_contiguous


def test_damaged_exif_leaves_an_image_as_it_is() -> None:
    image = Image.fromarray(RNG.integers(0, 256, (3, 5), np.uint8))
    data = encode(image, "PNG", exif=b"Exif\0\0no exif at all")
    np.testing.assert_array_equal(decode_image(data, "image", "here"), np.asarray(image))
