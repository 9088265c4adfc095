"""Canonical MessagePack, read from the specification of MessagePack and section 5 of docs/format.md alone."""

from __future__ import annotations

import struct
from typing import Any


class BadFormatError(ValueError):
    """Bytes do not follow the document."""


def demand(condition: object, rule: str) -> None:
    """Raise `BadFormatError` naming the rule unless it holds."""
    if not condition:
        raise BadFormatError(rule)


class Cursor:
    """Bytes read from front to back."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = bytes(data)
        self.at = 0

    def take(self, nbytes: int) -> bytes:
        demand(0 <= nbytes <= len(self.data) - self.at, "more bytes are called for than there are")
        self.at += nbytes
        return self.data[self.at - nbytes : self.at]

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def finish(self) -> None:
        demand(self.at == len(self.data), "bytes are left over")


def read_msgpack(data: bytes) -> Any:
    """The one value in `data`; maps are dicts in the order they stand in."""
    cursor = Cursor(data)
    value = _read_value(cursor)
    cursor.finish()
    return value


def _read_value(cursor: Cursor) -> Any:
    (code,) = cursor.take(1)
    if code < 0x80:
        return code
    if code >= 0xE0:
        return code - 256
    if code < 0x90:
        return _read_map(cursor, code & 15)
    if code < 0xA0:
        return _read_array(cursor, code & 15)
    if code < 0xC0:
        return cursor.take(code & 31).decode("utf-8")
    simple = {0xC0: None, 0xC2: False, 0xC3: True}
    if code in simple:
        return simple[code]
    if code == 0xCB:
        return cursor.unpack(">d")[0]
    if 0xCC <= code <= 0xD3:
        return _read_integer(cursor, code)
    return _read_sized(cursor, code)


def _read_integer(cursor: Cursor, code: int) -> int:
    forms = {0xCC: (">B", 128), 0xCD: (">H", 1 << 8), 0xCE: (">I", 1 << 16), 0xCF: (">Q", 1 << 32)}
    if code in forms:
        form, least = forms[code]
        value = int(cursor.unpack(form)[0])
        demand(value >= least, "an integer is not in its shortest form")
        return value
    form, greatest = {
        0xD0: (">b", -33),
        0xD1: (">h", -129),
        0xD2: (">i", -(1 << 15) - 1),
        0xD3: (">q", -(1 << 31) - 1),
    }[code]
    value = int(cursor.unpack(form)[0])
    demand(value <= greatest, "a negative integer is not in its shortest form, or one that is none has its form")
    return value


def _read_sized(cursor: Cursor, code: int) -> Any:
    forms = {
        0xC4: (">B", 0, "bin"),
        0xC5: (">H", 1 << 8, "bin"),
        0xC6: (">I", 1 << 16, "bin"),
        0xD9: (">B", 32, "str"),
        0xDA: (">H", 1 << 8, "str"),
        0xDB: (">I", 1 << 16, "str"),
        0xDC: (">H", 16, "array"),
        0xDD: (">I", 1 << 16, "array"),
        0xDE: (">H", 16, "map"),
        0xDF: (">I", 1 << 16, "map"),
    }
    demand(code in forms, f"a value of a kind that records do not have: {code:#x}")
    form, least, kind = forms[code]
    size = int(cursor.unpack(form)[0])
    demand(size >= least, f"a size of {kind} is not in its shortest form")
    if kind == "bin":
        return cursor.take(size)
    if kind == "str":
        return cursor.take(size).decode("utf-8")
    return _read_array(cursor, size) if kind == "array" else _read_map(cursor, size)


def _read_array(cursor: Cursor, size: int) -> list[Any]:
    demand(size <= len(cursor.data), "an array claims more than there is")
    return [_read_value(cursor) for _ in range(size)]


def _read_map(cursor: Cursor, size: int) -> dict[Any, Any]:
    demand(size <= len(cursor.data), "a map claims more than there is")
    pairs = [(_read_value(cursor), _read_value(cursor)) for _ in range(size)]
    demand(len({key for key, _ in pairs}) == size, "a key stands twice")
    return dict(pairs)
