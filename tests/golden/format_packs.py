"""Packs, presence maps, location tables and chunk lists, read from sections 7 to 11 of docs/format.md alone."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np
from blake3 import blake3
from numcodecs import blosc, zstd
from tests.golden.format_msgpack import Cursor, demand

CODECS = ["raw", "lz4", "zstd", "blosc"]
CHUNK_NBYTES = 4_194_304
TORCH_ONLY = {"complex32": 4, "bits16": 2} | dict.fromkeys(
    ["float4_e2m1fn_x2", "bits8", "bits1x8", "bits2x4", "bits4x2"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)],
    1,
)


def measure_element(dtype: str) -> int:
    """The item size of a dtype of section 8.1."""
    if dtype in ("str", "bytes"):
        return 1
    if dtype in TORCH_ONLY:
        return TORCH_ONLY[dtype]
    if dtype == "bfloat16" or dtype.startswith("float8_"):
        return np.dtype(getattr(ml_dtypes, dtype)).itemsize
    plain = r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)|(datetime|timedelta)64\[\w+\]"
    demand(re.fullmatch(plain, dtype), f"{dtype!r} is no dtype")
    return np.dtype(dtype).itemsize


def crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


@dataclass
class Manifest:
    """The file `chunks`."""

    is_ragged: bool
    codec: str
    rows: int
    block_units: int
    units: int
    shard_nbytes: int
    zarr_digest: bytes
    dtype: str
    item_shape: list[int]
    digests: list[bytes]
    spans: list[tuple[int, int]]

    @property
    def itemsize(self) -> int:
        return measure_element(self.dtype)

    @property
    def unit_nbytes(self) -> int:
        return self.itemsize * math.prod(self.item_shape)

    @property
    def blocks(self) -> int:
        return -(-self.units // self.block_units)

    @property
    def shard_name(self) -> str:
        return "c" + ".0" * (1 + len(self.item_shape))


def read_manifest(data: bytes) -> Manifest:
    """9.1"""
    cursor = Cursor(data)
    magic, version, layout, codec, axes, reserved = cursor.unpack("<8sHBBB3s")
    demand((magic, version, reserved) == (b"SRCHUNKS", 1, bytes(3)), "magic, version and reserved of `chunks`")
    rows, block_units, units, shard_nbytes, zarr_digest, name = cursor.unpack("<QQQQ32s24s")
    demand(layout <= 1 and codec <= 3 and axes <= 32 and not (layout and axes), "layout, codec and axes of `chunks`")
    demand(rows < 1 << 32 and units < 1 << 48 and shard_nbytes < 1 << 48, "limits of `chunks`")
    dtype = name.rstrip(b"\0").decode("ascii")
    demand(name == dtype.encode().ljust(24, b"\0"), "the data type is padded with zeros")
    item_shape = list(cursor.unpack(f"<{axes}Q"))
    digests = [cursor.take(32) for _ in range(rows)]
    if layout:
        spans = list(zip(cursor.unpack(f"<{rows}Q"), cursor.unpack(f"<{rows}Q"), strict=True))
    else:
        nbytes = measure_element(dtype) * math.prod(item_shape)
        spans = [(row * nbytes, nbytes) for row in range(rows)]
    cursor.finish()
    manifest = Manifest(
        bool(layout),
        CODECS[codec],
        rows,
        block_units,
        units,
        shard_nbytes,
        zarr_digest,
        dtype,
        item_shape,
        digests,
        spans,
    )
    demand(0 < block_units * manifest.unit_nbytes <= 16 << 20, "a block is at most 16 MiB of raw bytes")
    demand(layout or units == rows, "a uniform pack has as many units as rows")
    demand(all(o + n <= units * manifest.unit_nbytes for o, n in spans), "a row lies within the array")
    demand(all(not o % 64 for o, _ in spans) or not layout, "a row of a ragged pack begins at a multiple of 64 bytes")
    return manifest


def make_zarr_json(manifest: Manifest) -> bytes:
    """9.3: what the manifest says that `zarr.json` is."""
    size, dtype = manifest.itemsize, manifest.dtype
    codecs: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}} if size > 1 else {"name": "bytes"}
    ]
    if manifest.codec == "zstd":
        codecs.append({"name": "zstd", "configuration": {"level": 3, "checksum": False}})
    elif manifest.codec != "raw":
        shuffle = "shuffle" if manifest.codec == "blosc" and size > 1 else "noshuffle"
        configuration = {"cname": "lz4", "clevel": 5, "shuffle": shuffle, "typesize": size, "blocksize": 0}
        codecs.append({"name": "blosc", "configuration": configuration})
    if manifest.codec != "raw":
        codecs.append({"name": "crc32c"})
    inner = {
        "chunk_shape": [manifest.block_units, *manifest.item_shape],
        "codecs": codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    fill: Any = 0
    if dtype == "bool":
        fill = False
    elif dtype.startswith("complex"):
        fill = [0.0, 0.0]
    elif dtype.startswith("float8"):
        fill = "0x7f" if dtype == "float8_e8m0fnu" else "0x00"
    elif "float" in dtype:
        fill = 0.0
    grid = [manifest.blocks * manifest.block_units, *manifest.item_shape]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [manifest.units, *manifest.item_shape],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "fill_value": fill,
        "attributes": {},
        "storage_transformers": [],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def read_index(data: bytes, body_nbytes: int) -> list[tuple[int, int]]:
    """9.2: offset and size of each block."""
    body, seal = data[:-4], data[-4:]
    demand(crc(body) == seal, "CRC-32C of the shard's index")
    words = struct.unpack(f"<{len(body) // 8}Q", body)
    spans = list(zip(words[::2], words[1::2], strict=True))
    demand(all(offset + nbytes <= body_nbytes for offset, nbytes in spans), "blocks lie before the index")
    return spans


def read_block(codec: str, encoded: bytes, nbytes: int) -> bytes:
    """8.2: the raw bytes of one block."""
    if codec == "raw":
        demand(len(encoded) == nbytes, "the size of a raw block")
        return encoded
    body, seal = encoded[:-4], encoded[-4:]
    demand(crc(body) == seal, "CRC-32C of a block")
    if codec == "zstd":
        descriptor = body[4]  # RFC 8878, 3.1.1.1
        width = [descriptor >> 5 & 1, 2, 4, 8][descriptor >> 6]
        start = 5 + (0 if descriptor & 32 else 1) + [0, 1, 2, 4][descriptor & 3]
        stated = int.from_bytes(body[start : start + width], "little") + (256 if width == 2 else 0)
        demand(body[:4] == b"\x28\xb5\x2f\xfd" and width and stated == nbytes, "a zstd frame states its size")
        return bytes(zstd.decompress(body))
    demand(struct.unpack("<I", body[4:8])[0] == nbytes, "a blosc block states its size")
    return bytes(blosc.decompress(body))


@dataclass
class Pack:
    """A pack's manifest and its rows; those that are absent are None."""

    manifest: Manifest
    rows: list[bytes | None]


def read_pack(folder: Path) -> Pack:
    """9 and 10: a pack's folder, with everything checked that is there."""
    encoded = (folder / "chunks").read_bytes()
    demand(blake3(encoded).hexdigest() == folder.name, "a pack's digest is that of its `chunks`")
    manifest = read_manifest(encoded)
    zarr_json = (folder / "zarr.json").read_bytes()
    demand(zarr_json == make_zarr_json(manifest), "the manifest determines every byte of `zarr.json`")
    demand(blake3(zarr_json).digest() == manifest.zarr_digest, "the digest of `zarr.json`")
    shard = (folder / manifest.shard_name).read_bytes()
    demand(len(shard) == manifest.shard_nbytes, "the size of the shard")
    body_nbytes = len(shard) - 16 * manifest.blocks - 4
    spans = read_index(shard[body_nbytes:], body_nbytes)
    is_present = _read_presence(folder, manifest)
    size = manifest.block_units * manifest.unit_nbytes
    raw = b""
    for block, (offset, nbytes) in enumerate(spans):
        is_here = manifest.codec == "raw" or is_present[block]
        raw += read_block(manifest.codec, shard[offset : offset + nbytes], size) if is_here else bytes(size)
    rows: list[bytes | None] = []
    for row, (offset, nbytes) in enumerate(manifest.spans):
        units = [row] if manifest.codec == "raw" else range(offset // size, -(-(offset + nbytes) // size))
        data = raw[offset : offset + nbytes] if all(is_present[unit] for unit in units) else None
        demand(data is None or blake3(data).digest() == manifest.digests[row], f"the digest of row {row}")
        rows.append(data)
    if all(is_present):
        covered = bytearray(raw)
        for offset, nbytes in manifest.spans:
            covered[offset : offset + nbytes] = bytes(nbytes)
        demand(not any(covered), "gaps are zero")
    return Pack(manifest, rows)


def _read_presence(folder: Path, manifest: Manifest) -> list[bool]:
    units = manifest.rows if manifest.codec == "raw" else manifest.blocks
    path = folder / "present"
    return read_presence(path.read_bytes(), units) if path.exists() else [True] * units


def read_presence(data: bytes, units: int) -> list[bool]:
    """10: which units of transfer are here."""
    cursor = Cursor(data)
    demand(cursor.unpack("<8sQ") == (b"SRPRESNT", units), "magic and units of a presence map")
    bits = cursor.take(-(-units // 8))
    cursor.finish()
    return [bool(bits[unit // 8] >> unit % 8 & 1) for unit in range(units)]


def read_table(data: bytes) -> list[tuple[int, int, int]]:
    """11: prefix, pack and row of each entry of a location table."""
    cursor = Cursor(data)
    magic, version, rows = cursor.unpack("<8sQQ")
    demand((magic, version) == (b"SRLOCTAB", 1) and rows < 1 << 40, "magic, version and rows of a table")
    prefixes, locations = cursor.unpack(f"<{rows}Q"), cursor.unpack(f"<{rows}Q")
    cursor.finish()
    demand(list(prefixes) == sorted(prefixes), "prefixes ascend")
    return [(prefix, at >> 32, at & 0xFFFFFFFF) for prefix, at in zip(prefixes, locations, strict=True)]


@dataclass
class ChunkList:
    """7.1"""

    nbytes: int
    chunk_nbytes: int
    tensor_digest: bytes
    digests: list[bytes]


def read_chunk_list(data: bytes) -> ChunkList:
    """7.1"""
    cursor = Cursor(data)
    magic, version, nbytes, chunk_nbytes, digest = cursor.unpack("<4sIQQ32s")
    demand((magic, version) == (b"SRcl", 1), "magic and version of a chunk list")
    demand(nbytes > CHUNK_NBYTES and 1 <= chunk_nbytes <= CHUNK_NBYTES, "sizes of a chunk list")
    chunks = -(-nbytes // chunk_nbytes)
    demand(len(data) == 56 + 32 * chunks, "a chunk list has the length that its sizes call for")
    digests = [cursor.take(32) for _ in range(chunks)]
    cursor.finish()
    return ChunkList(nbytes, chunk_nbytes, digest, digests)


def measure_chunk(shape: list[int], itemsize: int) -> int:
    """7.1: the size of every chunk but the last of a tensor over 4 MiB."""
    row = itemsize * math.prod(shape[1:])
    unit = row if row <= CHUNK_NBYTES else itemsize
    count = CHUNK_NBYTES // unit
    step = 64 // math.gcd(unit, 64)
    return (count // step * step or count) * unit
