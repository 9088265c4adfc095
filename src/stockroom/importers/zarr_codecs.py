"""The codecs that a foreign Zarr array may name, checked before zarr makes any of them.

zarr makes whatever codec the metadata names, from any installed package; one of them unpickles. Owns the list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from zarr.storage import LocalStore, WrapperStore, ZipStore

from stockroom.errors import InvalidInputError

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
_KEY_ENCODINGS: Final = frozenset({"default", "v2"})


class CheckedStore(WrapperStore[Any]):
    """A store for reading whose metadata names no codec outside the list."""

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return the bytes under `key`; raises `InvalidInputError` if they name a codec that is not decoded."""
        content = await self._store.get(key, prototype, byte_range)
        if content is not None and key.rpartition("/")[2] in _DOCUMENTS:
            check_codecs(content.to_bytes(), f"{str(self._store).partition('://')[2]}/{key}")
        return content

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
