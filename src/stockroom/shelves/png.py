"""A small PNG encoder for arrays, with no dependencies."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from numpy.typing import NDArray

_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}
_MAX_SIDE: Final = 1 << 31


def is_image(array: NDArray[Any]) -> bool:
    """Return whether `encode_png` takes an array: uint8, `(height, width)` or `(height, width, 3 or 4)`."""
    has_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    return array.dtype.name == "uint8" and has_shape and all(0 < side < _MAX_SIDE for side in array.shape)


def encode_png(array: NDArray[Any]) -> bytes:
    """Return a PNG file with exactly these pixels: uint8 `(height, width)` or `(height, width, channels)`."""
    height, width = array.shape[:2]
    channels = array.shape[2] if array.ndim == 3 else 1
    lines = array.reshape(height, width * channels)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    compressor = zlib.compressobj(6)
    body = [compressor.compress(b"\x00" + line.tobytes()) for line in lines]
    chunks = (b"IHDR", header), (b"IDAT", b"".join([*body, compressor.flush()])), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_encode_chunk(kind, data) for kind, data in chunks)


def _encode_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
