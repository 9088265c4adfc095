"""Tuples as keys of a str column, such as `("patient", 3)`: the one text that stands for each.

The text is the tuple as a JSON list without spaces: `["patient",3]`. It tells `3` from `"3"`, and can be typed on a
command line; the tuple and its text are one key. Keys are in the order of their texts.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from stockroom.errors import SchemaError
from stockroom.trees import Key

SampleKey: TypeAlias = Key | tuple[int | str, ...]
"""A key as users give it and get it."""


def format_nested(parts: tuple[Any, ...], where: str) -> str:
    """The text of a tuple of int and str; `SchemaError` naming `where` for any other."""
    plain = [int(part) if hasattr(part, "__index__") and not isinstance(part, bool) else part for part in parts]
    if not plain or not all(isinstance(part, int | str) and not isinstance(part, bool) for part in plain):
        raise SchemaError(f"{where}: expected a key of int and str such as ('patient', 3), found {parts!r:.80}")
    return _dump(plain)


def parse_nested(text: str) -> SampleKey:
    """The tuple that a text stands for; the text itself if it stands for none."""
    if not text.startswith("[") or not text.endswith("]"):
        return text
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_key = bool(parts) and all(type(part) in (int, str) for part in parts)
    return tuple(parts) if is_key and _dump(parts) == text else text


def _dump(parts: list[Any]) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
