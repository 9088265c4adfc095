"""Metadata objects by digest: tree nodes, column records, chunk lists. It does not interpret their bytes.

    offset  size  type    field
    0       1     u8      encoding: 0 raw, 1 zstd
    1       4     u32 LE  length of the object's canonical bytes
    5       ...   bytes   the canonical bytes, encoded

The digest covers the canonical bytes, so encoding never changes it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from stockroom.digest import ObjectDigest, check_digest, compute_digest
from stockroom.errors import CorruptionError, InvalidInputError, malformed
from stockroom.kv import Environment, ReadTxn, WriteTxn
from stockroom.refs.marks import MarkKind, is_marked, unmark
from stockroom.store.codecs import read_zstd_nbytes

DATABASE: Final = "objects"
MAX_OBJECT_NBYTES: Final = 64 << 20
MAX_UNFLUSHED_NBYTES: Final = 32 << 20

_HEADER: Final = struct.Struct("<BI")
_RAW: Final = 0
_ZSTD: Final = 1
_ZSTD_LEVEL: Final = 1
_MIN_ZSTD_NBYTES: Final = 64
"""Shorter objects, such as the record of a number, are stored raw: a zstd frame would not save space."""
_malformed = partial(malformed, advice="run `stock fsck` to list the damage")

T = TypeVar("T")


class ObjectStore:
    """Metadata objects in LMDB, with a buffer of the unflushed ones.

    Objects are visible here as soon as they are put. They are on disk after `flush`, or with the transaction of
    `RefStore.apply`. One writer at a time; any number of readers.

    Attributes:
        written_count: objects written since opening.
        written_nbytes: their size on disk.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._unflushed: dict[ObjectDigest, bytes] = {}
        self._unflushed_nbytes = 0
        self.written_count = 0
        self.written_nbytes = 0

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the canonical bytes with the digest `digest`, verified.

        Raises:
            CorruptionError: the object is missing or damaged.
        """
        unflushed = self._unflushed.get(digest)
        if unflushed is not None:
            return unflushed
        return decode_object(self._env.view(lambda txn: txn.get(DATABASE, digest)), digest)

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return many objects' canonical bytes, read in one transaction; raises as `get_object` does."""
        unflushed = self._unflushed
        stored = self._env.view(
            lambda txn: [None if digest in unflushed else txn.get(DATABASE, digest) for digest in digests]
        )
        return [
            unflushed[digest] if digest in unflushed else decode_object(value, digest)
            for digest, value in zip(digests, stored, strict=True)
        ]

    def read_at_once(self, fn: Callable[[], T]) -> T:
        """Call `fn`, which writes nothing, with all its reads here in one transaction; returns its result."""
        return self._env.view(lambda _: fn())

    def get_encoded(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the database values of objects on disk unchanged; raises `CorruptionError` if one is missing."""
        values = self._env.view(lambda txn: [txn.get(DATABASE, digest) for digest in digests])
        for digest, value in zip(digests, values, strict=True):
            if value is None:
                decode_object(None, digest)
        return [value for value in values if value is not None]

    def add_encoded(self, encoded: dict[ObjectDigest, bytes]) -> None:
        """Write database values encoded elsewhere, durably. The caller has verified them with `decode_object`."""
        self._env.update(lambda txn: write_objects(txn, encoded))

    def list_missing(self, digests: Sequence[ObjectDigest]) -> set[ObjectDigest]:
        """Return the digests among `digests` that are not on disk, or are marked."""
        return self._env.view(lambda txn: {digest for digest in digests if not _is_kept(txn, digest)})

    def contains(self, digest: ObjectDigest) -> bool:
        """Return whether the object is here, written or unflushed."""
        return digest in self._unflushed or self._env.view(lambda txn: txn.get(DATABASE, digest)) is not None

    def put_object(self, data: bytes) -> ObjectDigest:
        """Put an object into the buffer, which spills to disk above 32 MiB; returns its digest.

        Raises:
            InvalidInputError: `data` is larger than 64 MiB.
        """
        if len(data) > MAX_OBJECT_NBYTES:
            raise InvalidInputError(f"expected a metadata object of at most 64 MiB, found {len(data)} bytes")
        digest = ObjectDigest(compute_digest(data))
        if digest not in self._unflushed:
            self._unflushed[digest] = bytes(data)
            self._unflushed_nbytes += len(data)
            if self._unflushed_nbytes > MAX_UNFLUSHED_NBYTES:
                self.flush()
        return digest

    @property
    def unflushed_nbytes(self) -> int:
        """The bytes that are not on disk yet."""
        return self._unflushed_nbytes

    def flush(self) -> None:
        """Write unflushed objects durably, in a separate transaction."""
        while self._unflushed:
            encoded = self.encode_unflushed()
            known = self.list_unflushed(but=encoded)
            with suppress(VanishedError):
                self.forget_written(self._env.update(lambda txn: _write_all(txn, encoded, known)))  # noqa: B023

    def discard_unflushed(self) -> None:
        """Drop unflushed objects."""
        self._unflushed = {}
        self._unflushed_nbytes = 0

    def encode_unflushed(self) -> dict[ObjectDigest, bytes]:
        """Encode the unflushed objects that are not on disk or are marked, as digest -> database value.

        Encoding happens before any write transaction, so no other writer waits for it.
        """
        unflushed = self._unflushed
        known = self._env.view(lambda txn: {d for d in unflushed if _is_kept(txn, d)})
        return {digest: encode_object(data) for digest, data in unflushed.items() if digest not in known}

    def list_unflushed(self, *, but: Collection[ObjectDigest]) -> list[ObjectDigest]:
        """Return the digests of unflushed objects, except some."""
        return [digest for digest in self._unflushed if digest not in but]

    def forget_written(self, sizes: Sequence[int]) -> None:
        """Empty the buffer after the transaction that wrote objects of these sizes is durable."""
        self.written_count += len(sizes)
        self.written_nbytes += sum(sizes)
        self.discard_unflushed()

    def iter_digests(self) -> Iterator[ObjectDigest]:
        """Yield the digests of all objects on disk, in order; in batches, so no transaction stays open."""
        start = b""
        while batch := self._env.view(lambda txn, at=start: _take_keys(txn, at, n=4096)):  # type: ignore[misc]
            yield from map(ObjectDigest, batch)
            start = batch[-1] + b"\0"

    def list_damaged(self, digests: Sequence[ObjectDigest]) -> list[tuple[ObjectDigest, CorruptionError]]:
        """Return those of some objects on disk that do not match their digests, and why; read in one transaction."""
        values = self._env.view(lambda txn: [txn.get(DATABASE, digest) for digest in digests])
        damaged = []
        for digest, value in zip(digests, values, strict=True):
            try:
                decode_object(value, digest)
            except CorruptionError as error:
                damaged.append((digest, error))
        return damaged


class VanishedError(Exception):
    """An object that was on disk a moment ago is gone."""


def check_known(txn: ReadTxn, known: Sequence[ObjectDigest]) -> None:
    """Raise `VanishedError` unless all of these are on disk."""
    for digest in known:
        if txn.get(DATABASE, digest) is None:
            raise VanishedError(digest)


def write_objects(txn: WriteTxn, encoded: dict[ObjectDigest, bytes]) -> list[int]:
    """Write the objects that `encode_unflushed` returned, and remove their marks; returns the sizes of the new ones."""
    for digest in encoded:
        unmark(txn, MarkKind.OBJECT, digest)
    return [len(value) for digest, value in sorted(encoded.items()) if txn.put_new(DATABASE, digest, value)]


def _write_all(txn: WriteTxn, encoded: dict[ObjectDigest, bytes], known: Sequence[ObjectDigest]) -> list[int]:
    check_known(txn, known)
    return write_objects(txn, encoded)


def _is_kept(txn: ReadTxn, digest: ObjectDigest) -> bool:
    return txn.get(DATABASE, digest) is not None and not is_marked(txn, MarkKind.OBJECT, digest)


def encode_object(data: bytes) -> bytes:
    """Return the database value of canonical bytes: compressed if that saves space."""
    if len(data) < _MIN_ZSTD_NBYTES:
        return _HEADER.pack(_RAW, len(data)) + data
    from numcodecs import zstd  # here for start-up time

    compressed: bytes = zstd.compress(data, _ZSTD_LEVEL)
    encoding, payload = (_ZSTD, compressed) if len(compressed) < len(data) else (_RAW, data)
    return _HEADER.pack(encoding, len(data)) + payload


def decode_object(value: bytes | None, digest: ObjectDigest) -> bytes:
    """Decode a database value to canonical bytes.

    Raises:
        CorruptionError: there is no value, or its bytes do not match the digest.
    """
    where = f"metadata object {digest.hex()}"
    if value is None:
        raise CorruptionError(
            f"{where}: missing from this repository; run `stock fsck` to list the damage", where=where
        )
    data = _decode_payload(value, where)
    check_digest(data, digest, where=where)
    return data


def _decode_payload(value: bytes, where: str) -> bytes:
    if len(value) < _HEADER.size:
        raise _malformed(where, f"a value of at least {_HEADER.size} bytes", f"{len(value)}")
    encoding, nbytes = _HEADER.unpack_from(value)
    if nbytes > MAX_OBJECT_NBYTES:
        raise _malformed(where, "a length of at most 64 MiB", str(nbytes))
    payload = value[_HEADER.size :]
    if encoding == _RAW and len(payload) == nbytes:
        return payload
    if encoding == _ZSTD:
        return _decompress(payload, nbytes, where)
    raise _malformed(where, f"{nbytes} bytes, raw or zstd", f"encoding {encoding}, {len(payload)} bytes")


def _decompress(payload: bytes, nbytes: int, where: str) -> bytes:
    from numcodecs import zstd  # here for start-up time

    if read_zstd_nbytes(payload[:18]) != nbytes:  # before allocating anything
        raise _malformed(where, f"a zstd frame of {nbytes} bytes", "another size")
    data = bytearray(nbytes)  # frames after the first do not fit
    try:
        zstd.decompress(payload, data)
    except (RuntimeError, ValueError) as error:
        raise _malformed(where, f"a zstd frame of {nbytes} bytes", str(error)) from error
    return bytes(data)


def _take_keys(txn: ReadTxn, start: bytes, *, n: int) -> list[bytes]:
    return [key for key, _ in zip((key for key, _ in txn.iterate(DATABASE, start)), range(n), strict=False)]
