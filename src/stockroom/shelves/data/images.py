"""Encoded images and the arrays in them, through Pillow, which is optional and imported here alone.

A decoder is the text that a column's record has: `image`, or `image:MODE` for arrays of one mode. Knows no column.
"""

from __future__ import annotations

import io
from typing import Any, Final, NoReturn

import numpy as np

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.values import Array

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""The formats that are read, by Pillow's names; it knows more, and many of those are seldom tried."""

MODE_CHANNELS: Final[dict[str, tuple[int, ...]]] = {"L": (), "RGB": (3,), "RGBA": (4,)}
"""The modes that a decoder may name, and the axes of an image after height and width."""

_AS_THEY_ARE: Final = ("L", "RGB", "RGBA", "I", "F")


def check_decoder(decoder: str, where: str) -> str:
    """`decoder`, if images can be read by it; `SchemaError` naming `where` otherwise."""
    name, has_mode, mode = decoder.partition(":")
    if name != "image" or (has_mode and mode not in MODE_CHANNELS):
        raise SchemaError(
            f"{where}: expected the decoder 'image', or 'image:MODE' with {', '.join(MODE_CHANNELS)}, found "
            f"{decoder!r}; the bytes can be read all the same, as `column.encoded[key]`"
        )
    return decoder


def decoded_shape(decoder: str) -> tuple[int | None, ...]:
    """The shape of what a decoder gives: `(height, width, channels)`; gray images have no third axis."""
    channels = MODE_CHANNELS.get(decoder.partition(":")[2])
    return (None, None, None) if channels is None else (None, None, *channels)


def decode_image(data: bytes, decoder: str, where: str, *, writable: bool = True) -> Array:
    """The pixels `(height, width)` or `(height, width, channels)` of an encoded image, an array of the caller's own.

    Where it need not be `writable`, a copy is spared. Pixels are uint8, or what a gray image of more bits needs.
    Palettes become RGB or RGBA; a mode that the decoder names is converted to. Raises `InvalidInputError` naming
    `where` if there is no whole image of one of `FORMATS`.
    """
    mode = check_decoder(decoder, where).partition(":")[2]
    pillow = load_pillow(where)
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            return to_array(image.convert(mode) if mode and mode != image.mode else image, writable=writable)
    except Exception as error:  # Pillow's readers raise whatever they meet
        _refuse(error, where)


def to_array(image: Any, *, writable: bool = True) -> Array:
    """The pixels of an image of Pillow's, an array of the caller's own; palettes become RGB or RGBA."""
    array = (np.array if writable else np.asarray)(_make_plain(image))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def load_pillow(where: str) -> Any:
    """Pillow's module for images; `InvalidInputError` naming `where` if it is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidInputError(
            f"{where}: images need Pillow: install it with `pip install 'stockroom-vcs[images]'`"
        ) from error
    return Image


def natural_mode(image: Any) -> str:
    """The mode in which an open image loses nothing: one of `MODE_CHANNELS`, or Pillow's own for more bits."""
    mode = str(image.mode)
    if mode in _AS_THEY_ARE or mode.startswith("I;16"):
        return mode
    if mode == "1":
        return "L"
    return "RGBA" if mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info else "RGB"


def _make_plain(image: Any) -> Any:
    mode = natural_mode(image)
    return image if mode == image.mode else image.convert(mode)


def _refuse(error: Exception, where: str) -> NoReturn:
    raise InvalidInputError(f"{where}: expected a whole image ({', '.join(FORMATS)}), found none: {error}") from error
