"""Small JSON mappings of the user, which columns and models carry in their records."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from stockroom.errors import SchemaError

MAX_NBYTES: Final = 64 << 10


def check_json(mapping: object, *, where: str, name: str) -> dict[str, Any]:
    """Return `mapping` as plain JSON values. Raises `SchemaError` if it is not a mapping of them or exceeds 64 KiB."""
    try:
        encoded = json.dumps(mapping, allow_nan=False, ensure_ascii=False).encode()
        plain = msgspec.json.decode(encoded, type=dict[str, Any])
        msgspec.msgpack.encode(plain)  # as recorded; rejects integers over 64 bits
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
        raise SchemaError(f"{where}: {name} must be a mapping of JSON values ({error})") from error
    if len(encoded) > MAX_NBYTES:
        raise SchemaError(f"{where}: {name} take {len(encoded)} bytes; expected at most {MAX_NBYTES}")
    return plain
