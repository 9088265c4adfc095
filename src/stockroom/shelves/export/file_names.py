"""Makes file names from keys, which may come from strangers: a unique name for each key, and never a path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from stockroom.digest import compute_digest

_MAX_NBYTES: Final = 180
_PLAIN: Final = frozenset("_=+,@()")
_PLAIN_INSIDE: Final = frozenset("- ")
_CUT_ESCAPE: Final = re.compile("%[0-9A-F]?$")


def name_file(key: int | str, *, keeps_dots: bool = True) -> str:
    """Return a name, without its ending, that no other key gets.

    Letters, digits and a few signs stay, some of them not at the start. All other characters, above all a slash, are
    escaped as in `%2F`. The end of a name that would be too long is replaced by a digest of the whole key.
    """
    text = str(key)
    inside = _PLAIN_INSIDE | {"."} if keeps_dots else _PLAIN_INSIDE
    name = "".join(c if _is_plain(c) or (c in inside and index) else _escape(c) for index, c in enumerate(text))
    data = name.encode()
    if len(data) > _MAX_NBYTES:
        digest = compute_digest(text.encode("utf-8", "surrogatepass")).hex()[:32]
        name = f"{_CUT_ESCAPE.sub('', data[: _MAX_NBYTES - 40].decode(errors='ignore'))}%~{digest}"
    return name or "%"


def is_cut(name: str) -> bool:
    """Return whether a name that `name_file` made holds a digest instead of the end of its key."""
    return "%~" in name


def parse_file_name(name: str) -> str:
    """Return the text of the key from which `name_file` made a name that is not cut."""
    return "" if name == "%" else unquote_to_bytes(name).decode("utf-8", "surrogatepass")


def _is_plain(character: str) -> bool:
    return character.isalnum() or character in _PLAIN


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
