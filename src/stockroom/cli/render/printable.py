"""Makes names and texts safe to print: they may come from strangers, and terminals obey control characters."""

from __future__ import annotations

import json


def as_printable(text: str) -> str:
    """Return `text` with control characters and lone surrogates escaped; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text
    )


def format_key(key: int | str) -> str:
    """Return a sample's key on one line: unchanged if that is unambiguous, otherwise quoted as in JSON."""
    if isinstance(key, int):
        return str(key)
    return key if key and key.isprintable() and not key.startswith('"') else json.dumps(key)
