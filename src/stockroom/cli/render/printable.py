"""Names and texts of strangers in the forms of the command line: keys, cells of CSV and cells of Markdown."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Final

from stockroom.content.printable import as_line

_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")
_MARKDOWN: Final = re.compile(r"[\\`*\[\]|~!]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def format_key(key: int | str) -> str:
    """Return a sample's key on one line: unchanged if that is unambiguous, otherwise quoted as in JSON."""
    if isinstance(key, int):
        return str(key)
    return key if key and key.isprintable() and not key.startswith('"') else json.dumps(key)


def quote_formula(text: str) -> str:
    """Return a cell of CSV, with an apostrophe before text that a spreadsheet would run as a formula."""
    if not _FORMULA.match(text):
        return text
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}"


def escape_markdown(text: str) -> str:
    """Return text on one line that Markdown shows as it is, without markup, links or HTML in it."""
    line = as_line(text)
    for character, entity in _ENTITIES.items():
        line = line.replace(character, entity)
    return _MARKDOWN.sub(r"\\\g<0>", line)
