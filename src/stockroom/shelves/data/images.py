"""Decodes images to arrays with Pillow, which is optional and imported only here. Knows no column.

A decoder is the text in a column's record: `image`, or `image:MODE` for arrays of one mode.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.values import Array

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""The formats that are read, by Pillow's names. Pillow reads more, but many of them are little tested."""

MODE_CHANNELS: Final[dict[str, tuple[int, ...]]] = {"L": (), "RGB": (3,), "RGBA": (4,)}
"""The modes that a decoder may name, with the axes of such an image after height and width."""

_AS_THEY_ARE: Final = ("L", "RGB", "RGBA", "I", "F")


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
    image with more bits. Palettes become RGB or RGBA; then the image is converted to the decoder's mode, if it names
    one. Raises `InvalidInputError` naming `where` if `data` is not a complete image in one of `FORMATS`.
    """
    mode = check_decoder(decoder, where).partition(":")[2]
    pillow = load_pillow(where)
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            return to_array(image.convert(mode) if mode and mode != image.mode else image, writable=writable)
    except Exception as error:  # Pillow's readers raise all kinds of errors
        raise InvalidInputError(f"{where}: cannot decode the image (expected {', '.join(FORMATS)}): {error}") from error


def to_array(image: Any, *, writable: bool = True) -> Array:
    """Return the pixels of a Pillow image, owned by the caller; palettes become RGB or RGBA."""
    mode = natural_mode(image)
    plain = image if mode == image.mode else image.convert(mode)
    array = np.array(plain) if writable else np.asarray(plain)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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
    """Return the mode that loses nothing of an open image: one of `MODE_CHANNELS`, or Pillow's own for more bits."""
    mode = str(image.mode)
    if mode in _AS_THEY_ARE or mode.startswith("I;16"):
        return mode
    if mode == "1":
        return "L"
    return "RGBA" if mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info else "RGB"
