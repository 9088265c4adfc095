"""Decodes images to arrays with Pillow, which is optional and imported only here. Knows no column.

A decoder is the text in a column's record: `image`, or `image:MODE` for arrays of one mode. Arrays are upright: the
EXIF orientation is applied. Owns what an array cannot hold of an image, which is refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.values import Array

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""The formats that are read, by Pillow's names. Pillow reads more, but many of them are little tested."""

MODE_CHANNELS: Final[dict[str, tuple[int, ...]]] = {"L": (), "RGB": (3,), "RGBA": (4,)}
"""The modes that a decoder may name, with the axes of such an image after height and width."""

HEAD_NBYTES: Final = 26
"""How many first bytes of a file `find_loss` needs."""

_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_ORIENTATION: Final = 0x0112
_TURNS: Final[dict[int, Callable[[Array], Array]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""An EXIF orientation -> the function that turns stored pixels upright."""


def check_decoder(decoder: str, where: str) -> str:
    """Return `decoder` if it is known; otherwise raises `SchemaError` naming `where`."""
    name, has_mode, mode = decoder.partition(":")
    if name != "image" or (has_mode and mode not in MODE_CHANNELS):
        raise SchemaError(
            f"{where}: expected the decoder 'image', or 'image:MODE' with {', '.join(MODE_CHANNELS)}, found "
            f"{decoder!r}; read the bytes with `column.encoded[key]`"
        )
    return decoder


def decoded_shape(decoder: str) -> tuple[int | None, ...]:
    """Return the shape of decoded images: `(height, width, channels)`; grayscale images have no third axis."""
    channels = MODE_CHANNELS.get(decoder.partition(":")[2])
    return (None, None, None) if channels is None else (None, None, *channels)


def decode_image(data: bytes, decoder: str, where: str, *, writable: bool = True) -> Array:
    """Decode an image to `(height, width)` or `(height, width, channels)`; the array belongs to the caller.

    Without `writable`, the array may be read-only, which saves a copy. Pixels are uint8, or the dtype of a grayscale
    image with more bits, and upright. Palettes become RGB or RGBA, CMYK becomes RGB; then the image is converted to the
    decoder's mode, if it names one. Raises `InvalidInputError` naming `where` if `data` is not a complete image in one
    of `FORMATS`, or if an array cannot hold it: see `find_loss`.
    """
    mode = check_decoder(decoder, where).partition(":")[2]
    pillow = load_pillow(where)
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            if not (loss := find_loss(image, data[:HEAD_NBYTES])):
                return _to_array(image, mode or natural_mode(image), data[:HEAD_NBYTES], writable=writable)
    except Exception as error:  # Pillow's readers raise all kinds of errors
        raise _undecodable(where, error) from error
    raise InvalidInputError(
        f"{where}: expected an image that an array can hold, found: {loss}; read the file itself with "
        "`column.encoded[key]`"
    )


def check_image(data: bytes, where: str) -> None:
    """Raise `InvalidInputError` naming `where` if `data` is not a complete image in one of `FORMATS`."""
    pillow = load_pillow(where)
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
    except Exception as error:  # Pillow's readers raise all kinds of errors
        raise _undecodable(where, error) from error


def _undecodable(where: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"{where}: cannot decode the image (expected {', '.join(FORMATS)}): {error}")


def find_loss(image: Any, head: bytes) -> str | None:
    """Return the kind of an open image that an array cannot hold whole, such as `16-bit color image`.

    `head` is the first `HEAD_NBYTES` bytes of the file: Pillow itself cuts 16 bits of color to 8 without a word.
    """
    if count_frames(image) > 1:
        return f"animated {image.format} image"
    if head.startswith(_PNG_MAGIC) and head[24:25] == b"\x10":
        if head[25] != 0:
            return "16-bit color image"
        if "transparency" in image.info:
            return "16-bit transparent image"
    return None


def count_frames(image: Any) -> int:
    """Return the number of frames of an open image: 1 unless it is animated."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def count_further_pictures(image: Any) -> int:
    """Return the number of pictures that follow the main one in a file of a camera, such as those for depth."""
    return int(getattr(image, "n_frames", 1)) - 1 if image.format == "MPO" else 0


def measure_upright(image: Any) -> tuple[int, int]:
    """Return the height and width of an open image after it is turned upright. Reads its header, not its pixels."""
    size = (image.height, image.width)
    return size[::-1] if _read_orientation(image, load_pillow("").Image) >= 5 else size


def _read_orientation(image: Any, kind: Any) -> int:
    """Return the EXIF orientation, 1 to 8. With `kind` `Image`, one after the pixels of a PNG file is not seen."""
    try:
        found = kind.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF has no orientation, and viewers show such an image as it is
        return 1
    return found if found in _TURNS else 1


def _to_array(image: Any, mode: str, head: bytes, *, writable: bool) -> Array:
    image.load()
    orientation = _read_orientation(image, type(image))
    _scale_transparency(image, head)
    plain = image if mode == image.mode else image.convert(mode)
    array = np.array(plain) if writable else np.asarray(plain)
    if orientation != 1:
        array = np.ascontiguousarray(_TURNS[orientation](array))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _scale_transparency(image: Any, head: bytes) -> None:
    """Scale the transparent gray of a PNG file of 2 or 4 bits, whose pixels Pillow scales to 8."""
    gray = image.info.get("transparency")
    if image.mode == "L" and isinstance(gray, int) and head.startswith(_PNG_MAGIC) and head[24] in (2, 4):
        image.info["transparency"] = gray * 255 // ((1 << head[24]) - 1)


def load_pillow(where: str) -> Any:
    """Return the module `PIL.Image`; raises `InvalidInputError` naming `where` if Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidInputError(
            f"{where}: images need Pillow: install it with `pip install 'stockroom-vcs[images]'`"
        ) from error
    return Image


def natural_mode(image: Any) -> str:
    """Return the mode that loses nothing of an open image: one of `MODE_CHANNELS`, or Pillow's own for more bits.

    CMYK becomes RGB, which does lose something.
    """
    mode = str(image.mode)
    if mode in ("I", "F") or mode.startswith("I;16"):
        return mode
    if "transparency" in image.info or mode in ("LA", "PA", "La", "RGBa"):
        return "RGBA"
    if mode in MODE_CHANNELS:
        return mode
    return "L" if mode == "1" else "RGB"
