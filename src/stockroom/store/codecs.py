"""The codecs that encode a pack's blocks: their names and their Zarr configuration.

zarr-python, zarrs and TensorStore know every codec: `lz4` and `blosc` are both Zarr's blosc codec, without and with
byte shuffle. An encoded block ends in a CRC-32C of the bytes before it (Zarr's `crc32c` codec), since neither format
notices every flipped bit. Encoding never changes a digest.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError

if TYPE_CHECKING:
    from stockroom.digest import Buffer

AUTO = "auto"
WORTHWHILE_FRACTION = 0.5
"""`auto` encodes a pack only if its first blocks shrink to this fraction or less: reading raw is far cheaper."""

CRC_NBYTES = 4
_LZ4_LEVEL = 5
_ZSTD_LEVEL = 3


class Codec(StrEnum):
    """The encoding of a pack's blocks."""

    RAW = "raw"
    LZ4 = "lz4"
    ZSTD = "zstd"
    BLOSC = "blosc"


def check_codec(name: str) -> str:
    """Return `name`; raises `InvalidInputError` unless it is a codec or `auto`."""
    names = (AUTO, *Codec)
    if name not in names:
        raise InvalidInputError(f"expected a codec ({', '.join(names)}), found {name!r}")
    return name


def encode_block(codec: Codec, block: Buffer, itemsize: int) -> Buffer:
    """Encode one block of elements of `itemsize` bytes."""
    if codec is Codec.RAW:
        return block
    encoded = _compress(codec, block, itemsize)
    return encoded + _compute_crc(encoded)


def decode_block(codec: Codec, encoded: Buffer, nbytes: int, *, where: str) -> Buffer:
    """Decode one block to its `nbytes` raw bytes; raises `CorruptionError` naming `where` if it is damaged."""
    if codec is Codec.RAW:
        return encoded
    body = encoded[:-CRC_NBYTES]
    if len(encoded) < CRC_NBYTES or bytes(encoded[-CRC_NBYTES:]) != _compute_crc(body):
        raise CorruptionError(f"{where}: block fails its checksum; run `stock fsck`", where=where)
    try:
        decoded: Buffer = _decompress(codec, body, nbytes)
    except (RuntimeError, ValueError) as error:
        raise CorruptionError(f"{where}: cannot decode the block ({error}); run `stock fsck`", where=where) from error
    if len(decoded) != nbytes:
        raise CorruptionError(
            f"{where}: expected a block of {nbytes} bytes, found {len(decoded)}; run `stock fsck`",
            where=where,
        )
    return decoded


def _compute_crc(data: Buffer) -> bytes:
    # Through numpy: the library refuses a memoryview.
    return int(google_crc32c.value(np.frombuffer(data, np.uint8))).to_bytes(CRC_NBYTES, "little")


def _compress(codec: Codec, block: Buffer, itemsize: int) -> bytes:
    if codec is Codec.ZSTD:
        from numcodecs import zstd

        return bytes(zstd.compress(block, _ZSTD_LEVEL))
    blosc = _load_blosc()
    shuffle = blosc.SHUFFLE if codec is Codec.BLOSC and itemsize > 1 else blosc.NOSHUFFLE
    return bytes(blosc.compress(block, b"lz4", _LZ4_LEVEL, shuffle, 0, itemsize))


def _decompress(codec: Codec, encoded: Buffer, nbytes: int) -> Any:
    # Both formats state their decoded size in the header; check it before allocating anything.
    if codec is Codec.ZSTD:
        from numcodecs import zstd

        if read_zstd_nbytes(bytes(encoded[:18])) != nbytes:
            raise ValueError("wrong size in the block's header")
        return zstd.decompress(encoded, bytearray(nbytes))
    blosc = _load_blosc()
    if len(encoded) < 16 or int.from_bytes(bytes(encoded[4:8]), "little") != nbytes:
        raise ValueError("wrong size in the block's header")
    if int.from_bytes(bytes(encoded[12:16]), "little") != len(encoded):
        raise ValueError("wrong encoded size in the block's header")
    return blosc.decompress(encoded)


@cache
def _load_blosc() -> Any:
    """Load numcodecs' Blosc with its threads turned off.

    With threads, it takes a lock between processes, which an interrupt at the wrong moment leaves locked forever.
    Blocks are too small to gain from threads, and the output would differ from run to run.
    """
    from numcodecs import blosc  # here for start-up time

    blosc.use_threads = False
    return blosc


def read_zstd_nbytes(header: bytes) -> int | None:
    """Return the decoded size that a zstd frame's header states (RFC 8878, section 3.1.1.1), or None if it has none."""
    if len(header) < 6:
        return None
    descriptor = header[4]
    is_single_segment = bool(descriptor & 0x20)
    size = (int(is_single_segment), 2, 4, 8)[descriptor >> 6]
    start = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if size == 0 or len(header) < start + size:
        return None
    return int.from_bytes(header[start : start + size], "little") + (256 if size == 2 else 0)


def choose_codec(sample: Buffer, itemsize: int) -> Codec:
    """Choose the codec for `auto` from the first bytes of a pack."""
    codec = Codec.BLOSC if itemsize > 1 else Codec.LZ4
    worthwhile = len(sample) > 0 and len(encode_block(codec, sample, itemsize)) <= WORTHWHILE_FRACTION * len(sample)
    return codec if worthwhile else Codec.RAW


def format_zarr_codec(codec: Codec, itemsize: int) -> list[dict[str, Any]]:
    """Return the Zarr v3 codec entries that follow `bytes` inside the shard; empty for raw."""
    if codec is Codec.RAW:
        return []
    if codec is Codec.ZSTD:
        return [{"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"}]
    shuffle = "shuffle" if codec is Codec.BLOSC and itemsize > 1 else "noshuffle"
    blosc = {"cname": "lz4", "clevel": _LZ4_LEVEL, "shuffle": shuffle, "typesize": itemsize, "blocksize": 0}
    return [{"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]
