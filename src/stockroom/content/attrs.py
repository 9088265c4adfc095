"""Small JSON mappings of the user's own, as columns and models carry them in their records."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from stockroom.errors import SchemaError

MAX_NBYTES: Final = 64 << 10


def check_json(mapping: object, *, where: str, name: str) -> dict[str, Any]:
    """`mapping` as plain JSON values; `SchemaError` if it is not a mapping of them or is over 64 KiB."""
    try:
        encoded = json.dumps(mapping, allow_nan=False, ensure_ascii=False).encode()
        plain = msgspec.json.decode(encoded, type=dict[str, Any])
        msgspec.msgpack.encode(plain)  # as it will be recorded: integers of more than 64 bits are refused
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
        raise SchemaError(f"{where}: {name} must be a mapping of JSON values ({error})") from error
    if len(encoded) > MAX_NBYTES:
        raise SchemaError(f"{where}: {name} take {len(encoded)} bytes; expected at most {MAX_NBYTES}")
    return plain
