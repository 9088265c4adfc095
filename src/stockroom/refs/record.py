"""Canonical msgpack after a magic and a version: the format of every record in the refs environment."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from stockroom.errors import FormatVersionError, InvalidInputError, MalformedRecordError

R = TypeVar("R", bound=msgspec.Struct)


class RecordFormat(Generic[R]):
    """The encoding of one type of record.

        offset  size  type     field
        0       4     bytes    magic
        4       1     u8       version
        5       ...   msgpack  the record's fields in order; keys of maps in them sorted

    A record has one encoding: bytes that would not encode to the same bytes again do not decode.
    """

    def __init__(self, record: type[R], *, magic: bytes, version: int, name: str, max_nbytes: int) -> None:
        self._head = magic + bytes([version])
        self._version = version
        self._name = name
        self._max_nbytes = max_nbytes
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")
        self._decoder: msgspec.msgpack.Decoder[R] = msgspec.msgpack.Decoder(record)

    def encode(self, record: R) -> bytes:
        """Return the canonical bytes, after parsing them back.

        Raises:
            InvalidInputError: a field does not fit the format, or the record is too large.
        """
        try:
            data = self._head + self._encoder.encode(record)
            self._decoder.decode(data[len(self._head) :])
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInputError(f"{self._name}: cannot be recorded: {error}") from error
        if len(data) > self._max_nbytes:
            raise InvalidInputError(
                f"{self._name}: expected at most {self._max_nbytes} bytes in total, found {len(data)}"
            )
        return data

    def decode(self, data: bytes, *, where: str) -> R:
        """Decode the record in `data`; errors name `where`.

        Raises:
            MalformedRecordError: the bytes do not follow the format.
            FormatVersionError: a newer Stockroom wrote them.
        """
        self._check_head(data, where)
        try:
            record = self._decoder.decode(data[len(self._head) :])
            canonical = self._head + self._encoder.encode(record)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:  # or map keys that are not text
            raise self._malformed(where, f"a {self._name} record", str(error)) from error
        if canonical != data:
            raise self._malformed(where, f"the canonical form of a {self._name} record", "another")
        return record

    def _check_head(self, data: bytes, where: str) -> None:
        magic_nbytes = len(self._head) - 1
        if len(data) > self._max_nbytes:
            raise self._malformed(where, f"at most {self._max_nbytes} bytes", str(len(data)))
        if len(data) < len(self._head) or data[:magic_nbytes] != self._head[:magic_nbytes]:
            raise self._malformed(where, f"a {self._name} record", repr(data[:magic_nbytes]))
        version = data[magic_nbytes]
        if version > self._version:
            raise FormatVersionError(
                f"{where}: expected {self._name} version {self._version}, found {version}; upgrade Stockroom"
            )
        if version != self._version:
            raise self._malformed(where, f"{self._name} version {self._version}", str(version))

    def _malformed(self, where: str, expected: str, found: str) -> MalformedRecordError:
        message = f"{where}: expected {expected}, found {found}; run `stock fsck` to list the damage"
        return MalformedRecordError(message, where=where)
