"""Small JSON mappings of the user, which columns and models carry in their records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from stockroom.errors import SchemaError

MAX_NBYTES: Final = 64 << 10


def check_json(mapping: object, *, where: str, name: str) -> dict[str, Any]:
    """Return `mapping` as plain JSON values. Raises `SchemaError` if it is not a mapping of them or exceeds 64 KiB."""
    plain = dict(mapping) if isinstance(mapping, Mapping) else mapping  # also the read-only ones that columns give
    try:
        encoded = json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
        decoded = msgspec.json.decode(encoded, type=dict[str, Any])
        msgspec.msgpack.encode(decoded)  # as recorded; rejects integers over 64 bits
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
        raise SchemaError(f"{where}: {name} must be a mapping of JSON values ({error})") from error
    others = list(_iter_other_keys(plain))
    if others:
        raise SchemaError(f"{where}: {name} must have str keys, as JSON has, found {others[0]!r}")
    if len(encoded) > MAX_NBYTES:
        raise SchemaError(f"{where}: {name} take {len(encoded)} bytes; expected at most {MAX_NBYTES}")
    return decoded


def _iter_other_keys(value: object) -> Iterator[object]:
    """Yield the keys that are no str, which JSON would make text without a word."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _iter_other_keys(part)
    yield from (key for key in value if not isinstance(key, str)) if isinstance(value, dict) else ()
