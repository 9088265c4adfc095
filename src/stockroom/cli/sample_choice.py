"""`--keys` as verbs take it: positions in key order, or keys with commas between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.cli.failures import CommandLineError

if TYPE_CHECKING:
    from stockroom.trees import Key


def parse_keys(text: str, key_type: str) -> slice | list[Key]:
    """`0:1000` as positions, `3,5,8` as keys of `key_type` ("int" or "str"), `["patient",3]` as the one key it is."""
    if key_type == "str" and text.startswith("["):
        return [text]
    parts = text.split(":")
    try:
        if 2 <= len(parts) <= 3:
            return slice(*(int(part) if part else None for part in parts))
        if key_type == "int":
            return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandLineError(f"expected positions as 0:1000 or keys as 3,5,8, found {text!r}") from error
    return list(text.split(","))
