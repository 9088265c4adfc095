"""The codecs that a foreign Zarr array may name, checked before zarr makes any of them.

zarr makes whatever codec the metadata names, from any installed package; one of them unpickles. Owns the list.
"""

from __future__ import annotations

import bz2
import json
import lzma
import math
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from zarr.storage import LocalStore, WrapperStore, ZipStore

from stockroom.errors import InvalidInputError
from stockroom.store.codecs import read_zstd_nbytes

_OF_BOTH: Final = """
    adler32 astype bitround blosc bz2 crc32 crc32c delta fixedscaleoffset fletcher32 gzip jenkins_lookup3 lz4 lzma
    packbits quantize shuffle zlib zstd
"""
_OF_V3: Final = "blosc bytes crc32c gzip sharding_indexed transpose vlen-bytes vlen-utf8 zstd"
V2_CODECS: Final = frozenset(_OF_BOTH.split()) | {"vlen-bytes", "vlen-utf8"}
"""The filters and compressors of Zarr version 2 that are decoded, by their ids."""

V3_CODECS: Final = frozenset(_OF_V3.split()) | {f"numcodecs.{name}" for name in _OF_BOTH.split()}
"""The codecs of Zarr version 3 that are decoded, by name."""

_DOCUMENTS: Final = (".zarray", ".zmetadata", "zarr.json")
_V3_FIELDS: Final = ("codecs", "index_codecs", "chunk_key_encoding")
_COMPRESSORS: Final = frozenset(["blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"])
_WITHOUT_SIZE: Final = frozenset(["bz2", "lzma"])
_HEAD_NBYTES: Final = 18
_WIDEST_FILTER: Final = 16
"""How many times wider than an item a filter may have stored it."""

_SLACK_NBYTES: Final = 1 << 20
_MEMORY_NBYTES: Final = 256 << 20
MAX_CHUNK_NBYTES: Final = 1 << 30
"""The largest chunk that is decoded."""

_KEY_ENCODINGS: Final = frozenset({"default", "v2"})


class CheckedStore(WrapperStore[Any]):
    """A store for reading whose metadata names no codec outside the list, and whose chunks do not become too large."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._chunks: dict[str, Chunks] = {}

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return the bytes under `key`.

        Raises `InvalidInputError` if they name a codec that is not decoded, `ValueError` if they are a chunk that
        decodes to far more than its array's metadata says.
        """
        content = await self._store.get(key, prototype, byte_range)
        if content is None:
            return None
        folder, _, name = key.rpartition("/")
        where = f"{str(self._store).partition('://')[2]}/{key}"
        if name in _DOCUMENTS:
            document = content.to_bytes()
            check_codecs(document, where)
            self._chunks |= {f"{folder}/{inner}".strip("/"): each for inner, each in list_chunks(document, where)}
        elif byte_range is None and not name.startswith(".") and (chunks := self._find_chunks(folder)) is not None:
            is_read = chunks.compressor in _WITHOUT_SIZE
            check_chunk(content.to_bytes() if is_read else content[:_HEAD_NBYTES].to_bytes(), chunks, key)
        return content

    def _find_chunks(self, folder: str) -> Chunks | None:
        while folder and folder not in self._chunks:
            folder = folder.rpartition("/")[0]
        return self._chunks.get(folder)

    async def _get_many(self, requests: Iterable[tuple[str, Any, Any]]) -> AsyncGenerator[tuple[str, Any], None]:
        for key, prototype, byte_range in requests:
            yield key, await self.get(key, prototype, byte_range)


def open_checked(path: Path) -> CheckedStore:
    """Return the store in a folder or zip file, for reading."""
    return CheckedStore(ZipStore(path, mode="r") if path.is_file() else LocalStore(path, read_only=True))


def check_codecs(document: bytes, where: str) -> None:
    """Raise `InvalidInputError` naming `where` if a metadata document names a codec that is not in the lists."""
    for name, known in _iter_named(json.loads(document)):
        if name not in known:
            raise InvalidInputError(
                f"{where}: expected codecs out of {', '.join(sorted(known))}, found {name!r:.80}; nothing was decoded; "
                "if you trust the array, write it again with another codec"
            )


def _iter_named(document: Any) -> Iterator[tuple[object, frozenset[str]]]:
    """Yield every codec in a document of any version, also consolidated, with the names it may have."""
    if isinstance(document, list):
        for item in document:
            yield from _iter_named(item)
    if not isinstance(document, dict):
        return
    for field, value in document.items():
        if field in ("compressor", "filters"):
            yield from ((_name(codec, "id"), V2_CODECS) for codec in _as_list(value))
        elif field in _V3_FIELDS:
            known = _KEY_ENCODINGS if field == "chunk_key_encoding" else V3_CODECS
            yield from ((_name(codec, "name"), known) for codec in _as_list(value))
        if field != "attributes" and not field.endswith(".zattrs"):  # the author's own notes, which name no codec
            yield from _iter_named(value)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(codec: Any, key: str) -> object:
    return codec.get(key) if isinstance(codec, dict) else codec


@dataclass(frozen=True, slots=True)
class Chunks:
    """How the chunks of an array are compressed, and the size that its metadata gives each."""

    compressor: str
    nbytes: int


def list_chunks(document: bytes, where: str) -> Iterator[tuple[str, Chunks]]:
    """Yield the chunks of the arrays in a metadata document, each by the folder below it.

    Raises `InvalidInputError` naming `where` if an array is compressed twice: the second time has no bound.
    """
    content = json.loads(document)
    if not isinstance(content, dict):
        return
    listed = content.get("metadata") or (content.get("consolidated_metadata") or {}).get("metadata") or {}
    for path, found in ("", content), *listed.items():
        names = _list_compressors(found)
        if len(names) > 1:
            raise InvalidInputError(f"{where}: expected one compressor, found {', '.join(names)}")
        if names:
            yield path.removesuffix(".zarray").strip("/"), Chunks(names[0], _measure_chunk(found))


def _list_compressors(document: Any) -> list[str]:
    """Return the names of an array's compressors; those inside shards are not seen."""
    codecs = [*_as_list(document.get("filters")), *_as_list(document.get("compressor"))]
    names = [_name(codec, "id") for codec in codecs] + [
        _name(codec, "name") for codec in _as_list(document.get("codecs"))
    ]
    plain = (str(name).removeprefix("numcodecs.") for name in names)
    return [name for name in plain if name in _COMPRESSORS]


def _measure_chunk(document: Any) -> int:
    """Return the bytes of a decoded chunk, by its metadata; those of the largest chunk if it does not say."""
    try:
        shape = document["chunks"] if "chunks" in document else document["chunk_grid"]["configuration"]["chunk_shape"]
        dtype = np.dtype(document["dtype"] if "dtype" in document else document["data_type"])
        if dtype.hasobject or not dtype.itemsize:  # text of any length
            return MAX_CHUNK_NBYTES
        return min(int(dtype.itemsize) * math.prod(map(int, shape)), MAX_CHUNK_NBYTES)
    except (KeyError, TypeError, ValueError):
        return MAX_CHUNK_NBYTES


def check_chunk(content: bytes, chunks: Chunks, where: str) -> None:
    """Raise `ValueError` naming `where` if a chunk decodes to far more bytes than its metadata says.

    `content` may be its first bytes alone if its format states the size there.
    """
    most = chunks.nbytes * _WIDEST_FILTER + _SLACK_NBYTES
    found = _measure_decoded(content, chunks.compressor, most)
    if found > most:
        raise ValueError(f"{where}: expected a chunk of {chunks.nbytes} bytes, found {found} or more")


def _measure_decoded(content: bytes, compressor: str, most: int) -> int:
    """Return the decoded size that a chunk states; for those that state none, of its first `most` + 1 bytes."""
    match compressor:
        case "blosc":
            return int.from_bytes(content[4:8], "little")
        case "lz4":
            return int.from_bytes(content[:4], "little")
        case "zstd":
            return read_zstd_nbytes(content[:18]) or 0
        case "bz2":
            return len(bz2.BZ2Decompressor().decompress(content, most + 1))
        case "lzma":
            return len(lzma.LZMADecompressor(memlimit=_MEMORY_NBYTES).decompress(content, most + 1))
        case _:  # deflate, which expands by `limits.MAX_EXPANSION` at most
            return 0
